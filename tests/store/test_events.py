from __future__ import annotations

from pathlib import Path

import pytest

from controller.store import Store
from tests.builders import at
from tests.store.kit import MovedClock, running


def test_events_are_read_on_from_any_of_them(store: Store):
    ids = [store.add_event(f"app-{number % 2}", "note", "info", str(number), {"n": number}).id for number in range(6)]
    assert ids == sorted(ids)
    assert [event.text for event in store.events(ids[2])] == ["3", "4", "5"]
    assert [event.text for event in store.events(ids[0], app="app-0")] == ["2", "4"]
    assert [event.text for event in store.events(0, limit=2)] == ["0", "1"]
    assert [event.text for event in store.recent_events(limit=2)] == ["4", "5"]
    assert [event.text for event in store.recent_events({"app-1"}, limit=2)] == ["3", "5"]
    assert store.recent_events([], limit=2) == ()
    assert store.last_event_id() == ids[-1]
    assert store.events(ids[3])[0].data == {"n": 4}


def test_whoever_comes_back_with_an_id_of_a_lost_database_misses_nothing_new(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        last = store.add_event("shop", "note", "info", "before").id
    path.unlink()
    clock.move(5)
    with running(path, clock) as store:
        store.add_event("shop", "note", "info", "after")
        assert [event.text for event in store.events(last)] == ["after"]


def test_an_audit_line_is_kept_and_found(store: Store):
    for number in range(5):
        store.add_audit(by="token ci", verb="apply", app=f"app-{number % 2}", at=at(number), outcome=f"change {number}")
    newest = store.audit.list(limit=2)
    assert [entry.outcome for entry in newest] == ["change 4", "change 3"]
    assert [entry.outcome for entry in store.audit.list(before_id=newest[-1].id)] == [
        "change 2",
        "change 1",
        "change 0",
    ]
    assert [entry.outcome for entry in store.audit.list(apps=["app-1"])] == ["change 3", "change 1"]
    assert (newest[0].by, newest[0].at, newest[0].verb) == ("token ci", at(4).wall, "apply")


@pytest.mark.parametrize("odd", ["\udc80", "a\x00b", "'; DROP TABLE audit; --", "😀" * 1000])
def test_odd_text_is_kept_and_does_no_harm(store: Store, odd: str):
    store.add_audit(by=odd, verb="apply", app="shop", at=at(), outcome=odd, detail=odd)
    store.add_event("shop", "note", "info", odd)
    shown = odd.replace("\udc80", "?")
    assert (store.audit.list()[0].by, store.events()[0].text) == (shown, shown)
