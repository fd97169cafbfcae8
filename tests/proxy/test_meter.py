"""What a worker counted is told by changes, folded when its release has left, and never lost on the way."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.proxy.meter import FORMER, Meter
from controller.proxy.releases import STAYS_S, Releases
from controller.publisher import meters
from controller.publisher.meters import add_up, merge_report
from controller.publisher.reports import parse_meters
from tests.parts.effort import examples
from tests.proxy.rig import Caller, Lane, an_app, an_upstream, wait_for

apps = st.sampled_from(["", "shop", "blog"])
releases = st.integers(0, 3)
steps = st.one_of(
    st.tuples(st.just("count"), apps, releases, st.sampled_from([200, 404, 503])),
    st.tuples(st.just("note"), apps, st.sampled_from(["retry", "held"])),
    st.tuples(st.just("fold"), st.sampled_from(["shop", "blog"]), st.integers(1, 3)),
    st.tuples(st.just("forget"), st.sampled_from(["shop", "blog"])),
    st.tuples(st.just("report")),
    st.tuples(st.just("meet anew")),
)


def rows(report: Any) -> Any:
    return sorted(json.dumps(row, sort_keys=True) for name in ("requests", "events") for row in report[name])


def totals(report: Any) -> Counter[str]:
    counted: Counter[str] = Counter()
    for row in report["requests"]:
        counted[row["app"]] += row["count"]
    return counted


def tell(meter: Meter, known: Any, *, whole: bool) -> Any:
    told = parse_meters(json.loads(json.dumps(meter.report(whole=whole))))
    return merge_report(known, told)


@settings(deadline=None, max_examples=examples(150))
@given(st.lists(steps, max_size=40))
def test_what_was_told_by_changes_is_what_a_whole_report_says_and_sums_only_grow(story: list[Any]) -> None:
    meter, known = Meter(), {}
    true: Counter[str] = Counter()
    for kind, *args in story:
        match kind:
            case "count":
                meter.count(args[0], args[1], args[2], 0.1, 1, 2)
                true[args[0]] += 1
            case "note":
                meter.note(*args)
            case "fold":
                meter.fold([(args[0], args[1])])
            case "forget":
                meter.forget(args)
                del true[args[0]]
            case _:
                known = tell(meter, known, whole=kind == "meet anew")
                assert totals(known) == +true
    known = tell(meter, known, whole=False)
    assert rows(known) == rows(meter.report(whole=True))
    assert totals(known) == +true


def test_only_what_changed_is_told() -> None:
    meter = Meter()
    for release in range(1, 500):
        meter.count("shop", release, 200, 0.1, 1, 2)
    assert len(meter.report(whole=False)["requests"]) == 499
    meter.count("shop", 7, 200, 0.1, 1, 2)
    told = meter.report(whole=False)
    assert [(row["release"], row["count"]) for row in told["requests"]] == [(7, 2)]
    assert meter.report(whole=False)["requests"] == []


def test_a_release_that_left_is_folded_once_it_could_be_seen_how_it_ended(lane: Lane) -> None:
    one, two = lane.backend(), lane.backend(name="two")
    with Caller(lane.port) as caller:
        for number in range(1, 40):
            backend = (one, two)[number % 2]
            lane.take(an_app(backend, upstreams=(an_upstream(backend, id=f"r{number}", release=number),)))
            assert caller.get().status == 200
    counted = lane.core.counters()
    assert len(counted["requests"]) == 39
    lane.call(lambda: lane.core._tidy(lane.core._due + STAYS_S + 1))
    counted = lane.core.counters()
    assert {row["release"]: row["count"] for row in counted["requests"]} == {39: 1, FORMER: 38}
    lane.take()
    wait_for(lambda: not lane.core.counters()["requests"])
    assert not lane.core._releases._apps


class App:
    """An app with upstreams of some releases."""

    name = "shop"

    def __init__(self, *numbers: int) -> None:
        self.numbers = frozenset(numbers)

    def releases(self) -> frozenset[int]:
        return self.numbers


def test_a_release_that_comes_back_is_not_folded() -> None:
    known = Releases()
    known.look_at([App(1, 2)], 0.0)
    known.look_at([App(2)], 1.0)
    known.look_at([App(1)], 2.0)
    assert known.take_left(STAYS_S) == []
    assert known.take_left(STAYS_S + 2.0) == [("shop", 2)]
    assert known.take_left(STAYS_S + 9.0) == []


def test_a_worker_that_makes_rows_up_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "_MOST", 100)
    known: Any = {}
    row = {"release": 1, "class": 2, "count": 1, "seconds": 0.1, "buckets": [1]}
    for start in range(0, 3 * meters._MOST, meters._MOST // 2):
        told = [{**row, "app": str(number)} for number in range(start, start + meters._MOST // 2)]
        known = merge_report(known, {"whole": False, "requests": told, "events": []})
        assert len(known["requests"]) <= meters._MOST + meters._MOST // 2


def test_a_worker_that_goes_leaves_its_sums_and_those_of_former_releases_added_up() -> None:
    row = {"class": 2, "count": 1, "seconds": 0.1, "bytes_in": 0, "bytes_out": 0, "buckets": [1]}
    requests = [{**row, "app": "shop", "release": number} for number in (0, 1, 2, 3)]
    requests += [{**row, "app": "gone", "release": 1}, {**row, "app": "", "release": 0}]
    kept = meters.keep_growing({"requests": requests, "events": []}, {"shop"}, lambda *release: release == ("shop", 3))
    found = {(one["app"], one["release"]): one["count"] for one in add_up([kept])["requests"]}
    assert found == {("shop", 0): 1, ("shop", FORMER): 2, ("shop", 3): 1, ("", 0): 1}
