from __future__ import annotations

from dataclasses import replace

import pytest

from controller.plan.earlier import find_earlier
from controller.plan.situation import Answer, Decision, Done, Outcome, Pin, Warm
from controller.store import Store, retention
from controller.store.meters import Count
from tests.builders import at
from tests.store.kit import MovedClock, a_decision, a_memory, a_release, a_start, an_order, sql, writes

DAY = 86400


def test_pruning_when_there_is_nothing_to_prune_writes_nothing(store: Store):
    store.intend("shop", a_decision(a_start()), at())
    before = writes(store)
    assert store.prune() == 0
    assert writes(store) == before


def test_the_last_fifty_releases_stay_and_those_that_memory_names(store: Store):
    memory = a_memory(60, live=2, pin=Pin(release=3, digest="d"), warm=Warm(release=4, until=at()), failed=5)
    for number in range(1, 61):
        decision = a_decision(a_start(number), memory=a_memory(number), releases=(a_release(number),), notes=())
        store.intend("shop", decision, at())
        store.conclude("shop", a_memory(number), (Done(a_start(number), "done"),), at())
    store.intend("shop", Decision(memory=memory), at())
    kept = [2, 3, 4, 5, *range(11, 61)]
    assert store.prune() == 6
    assert [number for (number,) in sql(store, "SELECT number FROM releases ORDER BY number")] == kept
    assert {step.release for step in store.steps("shop")} == set(kept)


def bring_up(store: Store, number: int, live: int, *, spec: str, kind: str = "apply") -> None:
    """Let a release be tried; afterwards *live* serves: itself, or another one because it failed."""
    outcome: Outcome = "live" if live == number else "failed"
    release = replace(a_release(number), digest=spec, kind=kind, was_live=live == number, outcome=outcome)
    store.intend("shop", Decision(memory=a_memory(number, live=live), releases=(release,)), at())


@pytest.mark.parametrize("between", ["failed", "restarted"])
def test_what_a_rollback_goes_to_stays_whatever_came_since(store: Store, between: str):
    bring_up(store, 1, 1, spec="good")
    bring_up(store, 2, 2, spec="now")
    for number in range(3, 64):
        if between == "failed":
            bring_up(store, number, 2, spec=f"bad-{number}")
        else:
            bring_up(store, number, number, spec="now", kind="restart")
    store.prune()
    memory, releases, _ = store.load("shop")
    stored = {number for (number,) in sql(store, "SELECT number FROM releases")}
    assert {1, *range(14, 64)} <= stored
    assert len(stored) < 56
    goal = find_earlier(releases, releases[memory.live or 0])
    assert goal is not None
    assert goal.number == 1


def test_events_and_audit_go_by_age_and_by_count(store: Store, clock: MovedClock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retention, "EVENTS", 10)
    monkeypatch.setattr(retention, "AUDIT", 5)
    monkeypatch.setattr(retention, "PIECE", 4)
    for number in range(25):
        store.add_event("shop", "note", "info", str(number))
        store.add_audit(by="ann", verb="apply", app="shop", at=clock.now(), outcome=str(number))
    store.prune()
    assert [event.text for event in store.events()] == [str(number) for number in range(15, 25)]
    assert [entry.outcome for entry in store.audit.list()] == ["24", "23", "22", "21", "20"]
    clock.move(31 * DAY)
    store.add_event("shop", "note", "info", "new")
    store.prune()
    assert [event.text for event in store.events()] == ["new"]
    assert len(store.audit.list()) == 5
    clock.move(365 * DAY)
    store.prune()
    assert store.audit.list() == ()


def test_answered_orders_go_after_a_month_and_open_ones_never(store: Store, clock: MovedClock):
    answered, still_open = store.order(an_order()), store.order(an_order("promote"))
    store.intend("shop", a_decision(answers=(Answer(order=answered.id, result="done"),)), clock.now())
    clock.move(29 * DAY)
    store.prune()
    assert store.answer(answered.id) is not None
    clock.move(2 * DAY)
    store.prune()
    assert [one.order.id for one in store.answers("shop")] == [still_open.id]
    assert store.load("shop")[2] == (still_open,)


def test_steps_and_published_routes_of_an_app_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch):
    from controller.plan.operations import PublishRoutes

    monkeypatch.setattr(retention, "STEPS", 7)
    monkeypatch.setattr(retention, "ROUTES", 3)
    for number in range(10):
        operation = PublishRoutes(None, f"reason {number}")
        store.intend("shop", a_decision(operation, notes=()), at(number))
        store.conclude("shop", a_memory(), (Done(operation, "done"),), at(number))
    store.prune()
    assert [step.because for step in store.steps("shop")] == [f"reason {number}" for number in range(3, 10)]
    assert [one.because for one in store.published("shop")] == ["reason 9", "reason 8", "reason 7"]


def test_minutes_become_hours_after_a_day_and_nothing_after_a_month(store: Store, clock: MovedClock):
    start = clock.now().wall // 3600 * 3600
    for minute in range(120):
        store.meters.add([Count("shop", "requests", 2, release=1), Count("shop", "errors", 0)], start + minute * 60)
        store.meters.add([Count("shop", "requests", 1, release=1)], start + minute * 60 + 30)
    fine = store.meters.read("shop", since=start, until=start + 7200)
    assert (len(fine), {bucket.span_s for bucket in fine}, fine[0].value) == (120, {60}, 3)
    clock.move(2 * DAY)
    store.prune()
    coarse = store.meters.read("shop", since=start, until=start + 7200, name="requests", release=1)
    assert [(bucket.start, bucket.span_s, bucket.value) for bucket in coarse] == [
        (start, 3600, 180),
        (start + 3600, 3600, 180),
    ]
    store.prune()
    assert store.meters.read("shop", since=start, until=start + 7200) == coarse
    clock.move(30 * DAY)
    store.prune()
    assert store.meters.read("shop", since=0, until=start * 2) == ()
