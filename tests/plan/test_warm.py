"""While nothing of the live release is ready, what is ready serves: after an older backup, in bake, while blue is warm."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from controller.clock import Instant
from controller.world.model import Replica
from tests.builders import a_spec
from tests.plan.outside import Outside, an_outside
from tests.plan.test_history_law import forward_until, is_switched
from tests.plan.test_rollouts import STRATEGIES, follow, serving


def routed(outside: Outside) -> set[str]:
    """Return the replicas that the published table sends live requests to."""
    routes = outside.situation.world.routing.published
    assert routes is not None
    return {u.id for u in routes.upstreams if u.state == "ready" and u.group == "live"}


def of_release(outside: Outside, number: int) -> list[Replica]:
    return [r for r in outside.replicas if r.release == number]


@pytest.mark.parametrize("file", ["shop:1", "shop:2", "shop:3"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_after_an_older_backup_what_runs_serves_until_what_the_backup_knows_is_ready(strategy: str, file: str) -> None:
    outside = an_outside(strategy=strategy, replicas=2)
    outside.back_up()
    follow(outside, strategy=strategy, image="shop:2", replicas=2)
    outside.restore()
    outside.ask(a_spec(strategy=strategy, image=file, replicas=2))
    for _ in range(80):
        outside.pass_once()
        routes = outside.situation.world.routing.published
        assert routes is not None
        assert routes.mode == "hold" or routed(outside), outside.story[-20:]
        outside.react()
        outside.pass_time(0.05)
    outside.settle_down()
    outside.check_rest()
    assert serving(outside) == file


@pytest.mark.parametrize("how", ["exit", "hang"])
@pytest.mark.parametrize("strategy", ["rolling", "blue_green"])
def test_when_all_of_the_new_is_lost_in_bake_the_warm_old_ones_serve_in_the_very_next_pass(
    strategy: str, how: str
) -> None:
    outside = an_outside(strategy=strategy, replicas=2)
    outside.ask(a_spec(strategy=strategy, image="shop:2", replicas=2, bake="1h"))
    forward_until(outside, lambda o: is_switched(o) and o.situation.memory.rollout.phase == "baking")
    for replica in of_release(outside, 2):
        if how == "exit":
            outside.change(replica, state="exited", exit_code=139)
        else:
            outside.hung.add(replica.id)
    outside.probe()
    outside.pass_once()
    assert routed(outside) >= {r.id for r in of_release(outside, 1)}
    outside.settle_down()
    outside.check_rest()
    assert serving(outside) == "shop:1"


def test_blue_that_is_warm_serves_while_nothing_of_green_does() -> None:
    blue_green = {"type": "blue_green", "keep_old": "10m"}
    outside = an_outside(strategy=blue_green, replicas=2)
    outside.ask(a_spec(strategy=blue_green, image="shop:2", replicas=2))
    forward_until(outside, lambda o: o.situation.memory.live == 2 and o.situation.memory.rollout is None)
    for replica in of_release(outside, 2):
        outside.change(replica, state="exited", exit_code=139)
    outside.pass_once()
    assert routed(outside) == {r.id for r in of_release(outside, 1)}
    forward_until(outside, lambda o: routed(o) == {r.id for r in of_release(o, 2)})
    outside.settle_down()
    outside.check_rest()
    assert serving(outside) == "shop:2"


def waits_for_promotion(outside: Outside) -> bool:
    rollout = outside.situation.memory.rollout
    return rollout is not None and rollout.waits_for == "promotion"


def kill(outside: Outside, replica: Replica) -> None:
    outside.change(replica, state="exited", exit_code=1)


def hang(outside: Outside, replica: Replica) -> None:
    outside.hung.add(replica.id)


@pytest.mark.parametrize("harm", [kill, hang])
def test_green_that_is_lost_while_it_waits_for_a_promotion_comes_back_or_fails_and_never_stays_as_it_is(
    harm: Callable[[Outside, Replica], None],
) -> None:
    manual = {"type": "blue_green", "promote": "manual"}
    outside = an_outside(strategy=manual)
    outside.ask(a_spec(strategy=manual, image="shop:2", deadline="20s"))
    forward_until(outside, waits_for_promotion)
    outside.stillborn = True
    harm(outside, of_release(outside, 2)[0])
    began: Instant = outside.situation.now
    while outside.situation.memory.rollout is not None:
        outside.pass_once()
        outside.react()
        assert not waits_for_promotion(outside) or outside.situation.now == began
        outside.pass_time(1)
        assert outside.situation.now.steady - began.steady < 120, outside.situation.memory
    assert outside.situation.releases[2].outcome == "failed"
    assert serving(outside) == "shop:1"


def test_the_last_ready_one_serves_although_it_is_more_than_what_is_wanted_now() -> None:
    outside = an_outside(replicas=2)
    numbers = ({"replicas": 0}, {"replicas": 3}, {"replicas": 0, "environment": {"A": "4"}}, {"replicas": 1})
    for passes, fields in enumerate(numbers, start=2):
        outside.ask(a_spec(**fields))
        for _ in range(passes):
            outside.pass_once()  # the law is checked at each publication
            outside.react()
            outside.pass_time(0.05)
    outside.settle_down()
    outside.check_rest()


def test_what_was_called_back_in_bake_is_not_asked_anew_for_the_undo_that_brings_it_back() -> None:
    outside = an_outside()
    follow(outside, strategy="blue_green", health={"path": "/up"})
    first = {r.id for r in outside.replicas}
    outside.ask(a_spec(image="sour:1", bake="5s"))
    forward_until(outside, is_switched)
    forward_until(outside, lambda o: o.situation.memory.rollout and o.situation.memory.rollout.kind == "undo")
    for _ in range(10):
        assert routed(outside) == first
        outside.pass_once()  # nobody answers a new question here
        outside.confirm()
    outside.settle_down()
    outside.check_rest()
    assert {r.id for r in outside.replicas} == first
