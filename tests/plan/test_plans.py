"""What each strategy does at each step, as printed; the same lines that people read in `oton diff`."""

from __future__ import annotations

from typing import Any

import pytest

from controller.plan.foresee import preview
from controller.plan.situation import Situation
from tests.builders import a_spec
from tests.plan.outside import Outside, an_outside


def plan(outside: Outside, **fields: Any) -> list[str]:
    """Return the preview's lines for a spec, without the reasons' column padding."""
    situation: Situation = outside.situation
    return [" ".join(line.split()) for line in preview(situation, a_spec(**fields))]


def test_a_rolling_update_starts_one_drains_one_until_none_is_left() -> None:
    assert plan(an_outside(replicas=2), replicas=2, image="shop:2") == [
        "image shop:2 image: shop:1 -> shop:2",
        "start shop-r2-1 image: shop:1 -> shop:2",
        "publish serve r2: 1 ready, r1: 1 ready, r1: 1 draining shop-r2-1 ready; shop-r1-1 out",
        "publish serve r2: 1 ready, r1: 1 ready shop-r1-1 drained",
        "start shop-r2-2 image: shop:1 -> shop:2",
        "publish serve r2: 2 ready, r1: 1 draining shop-r2-2 ready; shop-r1-2 out",
        "stop shop-r1-1 release 2 replaces it",
        "publish serve r2: 2 ready shop-r1-2 drained",
        "remove shop-r1-1 release 2 replaces it",
        "stop shop-r1-2 release 2 replaced it",
        "remove shop-r1-2 release 2 replaced it",
    ]


def test_without_surge_the_old_one_leaves_before_the_new_one_starts() -> None:
    strategy = {"type": "rolling", "max_surge": 0, "max_unavailable": 1}
    lines = plan(an_outside(replicas=2), replicas=2, image="shop:2", strategy=strategy)
    assert lines[1].startswith("publish serve r1: 1 ready, r1: 1 draining")
    first_start = next(i for i, line in enumerate(lines) if line.startswith("start"))
    assert any("drained" in line for line in lines[:first_start])


def test_blue_green_starts_all_then_switches_in_one_publication_and_keeps_blue_warm() -> None:
    strategy = {"type": "blue_green", "keep_old": "10s"}
    reason = "image: shop:1 -> shop:2; strategy: rolling -> {type: blue_green, keep_old: 10s}"
    lines = plan(an_outside(replicas=2), replicas=2, image="shop:2", strategy=strategy)
    assert lines == [
        f"image shop:2 {reason}",
        f"start shop-r2-1 {reason}",
        f"start shop-r2-2 {reason}",
        "publish serve r2: 2 ready, r1: 2 draining switch to release 2",
        "publish serve r2: 2 ready switch to release 2",
        "stop shop-r1-1 release 2 replaced it",
        "stop shop-r1-2 release 2 replaced it",
        "remove shop-r1-1 release 2 replaced it",
        "remove shop-r1-2 release 2 replaced it",
    ]


def test_a_manual_blue_green_waits_for_a_person() -> None:
    strategy = {"type": "blue_green", "promote": "manual", "preview_host": "next.example.com"}
    lines = plan(an_outside(), image="shop:2", strategy=strategy)
    assert lines[-1] == "wait for `oton promote`"
    assert "publish serve r2: 1 preview, r1: 1 ready shop-r2-1 ready" in lines


def test_recreate_holds_the_requests_before_the_old_one_stops() -> None:
    lines = plan(an_outside(strategy="recreate"), image="shop:2", strategy="recreate")
    assert lines == [
        "image shop:2 image: shop:1 -> shop:2",
        "publish hold r1: 1 draining requests wait while the app is recreated",
        "publish hold nobody requests wait while the app is recreated",
        "stop shop-r1-1 makes room for the new one",
        "start shop-r2-1 image: shop:1 -> shop:2",
        "publish serve r2: 1 ready release 2 is ready",
        "remove shop-r1-1 release 2 replaced it",
    ]


@pytest.mark.parametrize("strategy", ["rolling", "blue_green", "recreate"])
def test_what_is_no_part_of_the_container_restarts_nothing(strategy: str) -> None:
    changes: list[dict[str, Any]] = [
        {"routes": [{"host": "new.example.com"}]},
        {"health": {"path": "/up"}},
        {"proxy": {"timeout": "5s"}},
        {"deadline": "9m", "drain": "1s", "stop_grace": "1s"},
    ]
    for change in changes:
        lines = plan(an_outside(replicas=2, strategy=strategy), replicas=2, strategy=strategy, **change)
        assert not [line for line in lines if line.split()[0] in ("start", "stop", "restart", "remove")], lines


def test_scaling_up_starts_only_what_is_missing() -> None:
    lines = plan(an_outside(replicas=1), replicas=3)
    assert [line for line in lines if line.startswith("start")] == [
        "start shop-r2-2 replicas: 1 -> 3",
        "start shop-r2-3 replicas: 1 -> 3",
    ]


def test_scaling_down_stops_only_what_is_too_much() -> None:
    lines = plan(an_outside(replicas=3), replicas=1)
    assert [line.split()[1] for line in lines if line.startswith("stop")] == ["shop-r1-2", "shop-r1-3"]


def test_before_runs_once_before_the_first_new_replica_and_not_for_scaling() -> None:
    before = {"command": ["migrate"]}
    lines = plan(an_outside(before=before), image="shop:2", before=before)
    kinds = [line.split()[0] for line in lines]
    assert kinds.count("before") == 1
    assert kinds.index("before") < kinds.index("start")
    assert not [x for x in plan(an_outside(before=before), replicas=2, before=before) if x.startswith("before")]


def test_with_recreate_before_runs_after_the_old_one_has_stopped() -> None:
    before = {"command": ["migrate"]}
    kinds = [
        x.split()[0] for x in plan(an_outside(strategy="recreate"), image="shop:2", strategy="recreate", before=before)
    ]
    assert kinds.index("stop") < kinds.index("before") < kinds.index("start")
