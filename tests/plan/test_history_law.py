"""The history tells what serves, and a person who said stop is not overruled by the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.builders import a_spec
from tests.plan.outside import Outside, an_outside
from tests.plan.test_rollouts import STRATEGIES, follow, outcomes, serving

MANUAL = {"type": "blue_green", "promote": "manual"}


def forward_until(outside: Outside, condition: Callable[[Outside], object]) -> None:
    for _ in range(100):
        if condition(outside):
            return
        outside.pass_once()
        outside.react()
        outside.pass_time(0.05)
    raise AssertionError("it did not come to that\n" + "\n".join(outside.story[-20:]))


def is_switched(outside: Outside) -> bool:
    rollout = outside.situation.memory.rollout
    return rollout is not None and rollout.switched is not None


def lose_image(outside: Outside, number: int) -> None:
    """Have the image of a release removed from the engine and from its registry."""
    release = outside.situation.releases[number]
    gone = release.spec.model_copy(update={"image": "gone:1"})
    releases = {**outside.situation.releases, number: replace(release, spec=gone, image_id="gone")}
    outside.situation = replace(outside.situation, releases=releases)


@pytest.mark.parametrize("newer", ["bad:1", "gone:1", "dies:1"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_serves_is_live_although_a_newer_one_came_while_it_baked_and_failed(strategy: str, newer: str) -> None:
    outside = an_outside(strategy=strategy)
    outside.ask(a_spec(strategy=strategy, image="shop:2", bake="1h"))
    forward_until(outside, is_switched)
    follow(outside, strategy=strategy, image=newer, deadline="20s", bake="1h")
    assert outcomes(outside) == {1: "superseded", 2: "live", 3: "failed"}
    outside.order("rollback")
    outside.settle_down()
    assert serving(outside) == "shop:1"
    outside.ask(a_spec(strategy=strategy, image="shop:4"))
    outside.settle_down()
    outside.order("rollback")
    outside.settle_down()
    assert serving(outside) == "shop:1"
    assert sum(outcome == "live" for outcome in outcomes(outside).values()) == 1


def test_what_was_deleted_and_made_again_has_one_live_row() -> None:
    outside = an_outside()
    outside.ask(None)
    outside.settle_down()
    assert outcomes(outside) == {1: "superseded"}
    follow(outside, image="shop:2")
    assert outcomes(outside) == {1: "superseded", 2: "live"}


def test_rows_that_an_earlier_version_left_wrong_are_set_right() -> None:
    outside = an_outside()
    follow(outside, image="shop:2")
    first, second = outside.situation.releases[1], outside.situation.releases[2]
    wrong = {1: replace(first, outcome="live"), 2: replace(second, outcome="superseded", was_live=False)}
    outside.situation = replace(outside.situation, releases=wrong)
    outside.settle_down()
    assert outcomes(outside) == {1: "superseded", 2: "live"}


@pytest.mark.parametrize("strategy", [*STRATEGIES, "canary", MANUAL], ids=str)
@pytest.mark.parametrize("passes", [1, 3, 5, 7, 9])
def test_a_rollback_that_fails_waits_for_a_person_and_what_it_left_is_not_tried_again(
    strategy: object, passes: int
) -> None:
    outside = an_outside(strategy=strategy)
    follow(outside, strategy="rolling", image="shop:2")
    lose_image(outside, 1)
    outside.ask(a_spec(strategy=strategy, image="bad:3", deadline="1h"))
    for _ in range(passes):
        outside.pass_once()
        outside.react()
    outside.order("rollback", to=1)
    outside.settle_down()
    outside.pass_time(9999)
    outside.settle_down()
    assert serving(outside) == "shop:2"
    assert outcomes(outside) == {1: "superseded", 2: "live", 3: "superseded", 4: "failed"}
    assert outside.situation.memory.failed == 3
    outside.order("retry")
    outside.pass_once()
    assert outside.situation.memory.last_release == 5, "a person may ask for it again"


def test_a_rollback_that_is_aborted_waits_for_a_person() -> None:
    outside = an_outside()
    follow(outside, image="shop:2")
    outside.ask(a_spec(image="bad:3", deadline="1h"))
    forward_until(outside, lambda o: len(o.replicas) == 2)
    outside.order("rollback", to=1)
    outside.pass_once()
    outside.order("abort")
    outside.settle_down()
    assert serving(outside) == "shop:2"
    assert outside.situation.memory.last_release == 4
    assert outside.situation.memory.failed == 3


@pytest.mark.parametrize("strategy", [*STRATEGIES, "canary", MANUAL], ids=str)
@pytest.mark.parametrize("releases", [1, 2])
def test_back_in_the_middle_of_a_rollout_is_back_to_what_serves_and_pins_it(strategy: object, releases: int) -> None:
    outside = an_outside(replicas=2)
    for number in range(2, releases + 1):
        follow(outside, image=f"shop:{number}", replicas=2)
    outside.ask(a_spec(strategy=strategy, image="bad:9", replicas=2, deadline="1h"))
    for _ in range(9):
        outside.pass_once()
        outside.react()
    order = outside.order("rollback")
    outside.settle_down()
    outside.check_rest()
    outside.pass_time(9999)
    outside.settle_down()
    assert outside.answers[order] == "release"
    assert serving(outside) == f"shop:{releases}"
    assert outcomes(outside)[releases + 1] == "rolled_back"
    pin = outside.situation.memory.pin
    assert pin is not None
    assert pin.release == releases
    assert outside.situation.memory.failed is None
    again = outside.order("apply")
    outside.settle_down()
    assert outside.answers[again] == "conflict", "pinned"
    outside.order("unpin")
    outside.pass_once()
    assert outside.situation.memory.last_release == releases + 2


def test_back_while_a_failed_one_is_undone_pins_what_comes_back() -> None:
    outside = an_outside()
    outside.ask(a_spec(image="bad:2", deadline="20s"))
    forward_until(outside, lambda o: o.situation.memory.rollout and o.situation.memory.rollout.deadlines)
    outside.pass_time(21)
    forward_until(outside, lambda o: o.situation.memory.rollout and o.situation.memory.rollout.failing)
    order = outside.order("rollback")
    outside.settle_down()
    outside.check_rest()
    assert outside.answers[order] == "release"
    assert serving(outside) == "shop:1"
    assert outside.situation.memory.pin is not None


def test_back_while_an_undo_runs_lets_it_run_and_pins_it() -> None:
    outside = an_outside(replicas=2)
    outside.ask(a_spec(image="sour:2", bake="30s", replicas=2, strategy="recreate"))
    forward_until(outside, lambda o: o.situation.memory.rollout and o.situation.memory.rollout.kind == "undo")
    outside.order("rollback")
    outside.settle_down()
    outside.check_rest()
    assert serving(outside) == "shop:1"
    pin = outside.situation.memory.pin
    assert pin is not None
    assert pin.release == outside.situation.memory.live == 3


def test_back_from_a_restart_pins_nothing_for_the_file_asks_for_what_serves() -> None:
    outside = an_outside()
    outside.order("restart")
    outside.pass_once()
    outside.order("rollback")
    outside.settle_down()
    outside.check_rest()
    assert outside.situation.memory.pin is None
