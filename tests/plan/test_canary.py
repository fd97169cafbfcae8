"""Canary: the share of the traffic grows step by step, and goes back at once when a limit is broken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.world.model import Traffic
from tests.builders import a_spec
from tests.plan.outside import Outside, an_outside

BOUNDS = (0.1, 1.0, 2.5)
STEPS = [{"weight": 10, "hold": "30s"}, {"weight": 50, "hold": "30s"}]
CANARY: dict[str, Any] = {"type": "canary", "steps": STEPS}


def a_canary(**fields: Any) -> Outside:
    outside = an_outside(replicas=4)
    outside.ask(a_spec(replicas=4, image="shop:2", strategy={**CANARY, **fields}))
    return outside


def go(outside: Outside, passes: int = 12) -> None:
    for _ in range(passes):
        outside.pass_once()
        outside.react()
        outside.pass_time(0.05)


def tell(outside: Outside, requests: int, errors: int = 0, *, slow: int = 0) -> None:
    """Let the workers tell what release 2 answered so far."""
    buckets = (requests - slow, 0, 0, slow)
    traffic = {2: Traffic(requests=requests, errors=errors, buckets=buckets, bounds=BOUNDS)}
    outside.situation = replace(outside.situation, world=replace(outside.situation.world, traffic=traffic))


def weights(outside: Outside) -> tuple[tuple[int, int], ...]:
    routes = outside.situation.world.routing.confirmed
    assert routes is not None
    return routes.weights


def new_ones(outside: Outside) -> int:
    return sum(r.release == 2 and r.state == "running" for r in outside.replicas)


def test_each_step_first_has_its_replicas_ready_and_then_gets_its_share() -> None:
    outside = a_canary()
    go(outside)
    assert (weights(outside), new_ones(outside)) == (((1, 90), (2, 10)), 1)
    tell(outside, 100)
    outside.pass_time(31)
    go(outside)
    assert (weights(outside), new_ones(outside)) == (((1, 50), (2, 50)), 2)
    tell(outside, 300)
    outside.pass_time(31)
    outside.settle_down()
    outside.check_rest()
    assert outside.situation.memory.live == 2
    assert weights(outside) == ()


def test_a_share_is_held_for_its_time_from_the_confirmed_table_on() -> None:
    outside = a_canary()
    go(outside)
    tell(outside, 100)
    outside.pass_time(20)
    go(outside)
    assert weights(outside) == ((1, 90), (2, 10))


@pytest.mark.parametrize(
    ("errors", "slow", "says"), [(6, 0, "6.0% of 100 answers were errors"), (0, 10, "p95 above 2 s")]
)
def test_a_broken_limit_sends_nothing_more_to_the_new_release(errors: int, slow: int, says: str) -> None:
    outside = a_canary()
    go(outside)
    tell(outside, 100, errors, slow=slow)
    outside.pass_once()
    outside.pass_once()
    routes = outside.situation.world.routing.published
    assert routes is not None
    assert [u.release for u in routes.upstreams if u.state == "ready"] == [1, 1, 1, 1]
    outside.settle_down()
    outside.check_rest()
    assert outside.situation.releases[2].outcome == "rolled_back"
    assert says in outside.situation.releases[2].message


def test_errors_from_before_the_step_do_not_count() -> None:
    outside = a_canary()
    tell(outside, 100, 100)
    go(outside)
    tell(outside, 150, 101)
    go(outside)
    assert weights(outside) == ((1, 90), (2, 10))


def test_too_few_requests_extend_a_hold_once_and_then_it_passes() -> None:
    outside = a_canary()
    go(outside)
    tell(outside, 3, 3)
    outside.pass_time(31)
    go(outside)
    assert weights(outside) == ((1, 90), (2, 10))
    outside.pass_time(31)
    go(outside)
    assert weights(outside) == ((1, 50), (2, 50))


def test_a_promotion_takes_all_at_once() -> None:
    outside = a_canary()
    go(outside)
    order = outside.order("promote")
    outside.settle_down()
    outside.check_rest()
    assert outside.answers[order] == "release"
    assert outside.situation.memory.live == 2


def test_a_rollback_from_a_canary_does_not_go_by_steps() -> None:
    outside = a_canary()
    outside.order("promote")
    go(outside)
    outside.order("promote")
    outside.settle_down()
    began = outside.situation.now.steady
    outside.order("rollback")
    go(outside, 40)
    assert outside.situation.memory.live == 3
    assert outside.situation.now.steady - began < 30
