"""Rollouts to their end: failures, undo, rollback, pins, orders, healing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.plan.decide import decide
from controller.plan.operations import RestartReplica
from controller.plan.situation import Memory, Order
from controller.world.model import Verdict
from tests.builders import a_situation, a_spec, a_standing, at
from tests.plan.outside import Fault, Outside, an_outside

STRATEGIES = ("rolling", "blue_green", "recreate")


def serving(outside: Outside) -> str:
    live = outside.situation.memory.live
    return outside.situation.releases[live].spec.image if live else "nothing"


def outcomes(outside: Outside) -> dict[int, str]:
    return {n: r.outcome for n, r in sorted(outside.situation.releases.items())}


def follow(outside: Outside, **spec: object) -> None:
    outside.ask(a_spec(**spec))
    outside.settle_down()
    outside.check_rest()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("image", ["bad:1", "dies:1", "gone:1", "refused:1"])
def test_a_release_that_never_gets_ready_leaves_the_old_one_serving(strategy: str, image: str) -> None:
    outside = an_outside(strategy=strategy, replicas=2)
    follow(outside, strategy=strategy, replicas=2, image=image, deadline="20s")
    assert serving(outside) == "shop:1"
    assert outcomes(outside)[2] == "failed"
    assert {r.release for r in outside.replicas} == {1}


def test_the_message_of_a_failure_has_the_last_answer_and_the_last_lines() -> None:
    outside = an_outside()
    follow(outside, image="bad:1", deadline="20s")
    message = outside.situation.releases[2].message
    assert "was not ready 20 s after its start: GET /: 503" in message
    assert "last words" in message


def test_a_third_exit_of_one_replica_fails_at_once() -> None:
    outside = an_outside()
    began = outside.situation.now.steady
    follow(outside, image="dies:1", deadline="1h")
    assert outside.situation.now.steady - began < 60
    assert "exited with code 1, 3 times in a row" in outside.situation.releases[2].message


def test_a_failed_before_fails_the_release_and_starts_no_replica() -> None:
    outside = an_outside()
    before = {"command": ["migrate"]}
    follow(outside, image="unmigratable:1", before=before)
    assert outcomes(outside)[2] == "failed"
    assert not [line for line in outside.story if "start   shop-r2" in line]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_crash_during_bake_is_undone_once_and_does_not_pin(strategy: str) -> None:
    outside = an_outside(strategy=strategy)
    follow(outside, strategy=strategy, image="sour:1", bake="30s")
    assert outcomes(outside) == {1: "superseded", 2: "rolled_back", 3: "live"}
    undo = outside.situation.releases[3]
    assert (undo.reason, undo.spec.image) == ("undo of 2", "shop:1")
    assert outside.situation.memory.pin is None
    follow(outside, strategy=strategy, image="shop:2")
    assert serving(outside) == "shop:2"


def test_a_rollback_returns_the_whole_spec_and_sticks() -> None:
    outside = an_outside(environment={"A": "1"})
    follow(outside, image="shop:2")
    outside.order("rollback")
    outside.settle_down()
    live = outside.situation.releases[3]
    assert (live.spec.image, dict(live.spec.environment)) == ("shop:1", {"A": "1"})
    outside.restart_controller()
    outside.settle_down()
    assert serving(outside) == "shop:1"
    assert outcomes(outside)[2] == "rolled_back"


def test_repeating_a_rollback_walks_back() -> None:
    outside = an_outside()
    for image in ("shop:2", "shop:3"):
        follow(outside, image=image)
    outside.order("rollback")
    outside.settle_down()
    assert serving(outside) == "shop:2"
    outside.order("rollback")
    outside.settle_down()
    assert serving(outside) == "shop:1"
    last = outside.order("rollback")
    outside.settle_down()
    assert outside.answers[last] == "missing"


def test_a_new_digest_of_the_file_or_unpin_lifts_the_pin() -> None:
    outside = an_outside()
    follow(outside, image="shop:2")
    outside.order("rollback")
    outside.settle_down()
    pinned = outside.order("apply")
    outside.settle_down()
    assert outside.answers[pinned] == "conflict"
    follow(outside, image="shop:3")
    assert serving(outside) == "shop:3"
    outside.order("rollback")
    outside.settle_down()
    assert serving(outside) == "shop:1"
    outside.order("unpin")
    outside.settle_down()
    assert serving(outside) == "shop:3"


def test_a_rollback_that_fails_changes_nothing_and_is_not_repeated() -> None:
    outside = an_outside(image="gone:1")  # it cannot be resolved, so nothing serves
    assert serving(outside) == "nothing"
    follow(outside, image="shop:1")
    follow(outside, image="shop:2")
    first = outside.situation.releases[2]
    broken = replace(first, spec=first.spec.model_copy(update={"image": "bad:9"}), digest="bad", container_digest="")
    releases = {**outside.situation.releases, 2: replace(broken, image_id="sha256:bad:9")}
    outside.situation = replace(outside.situation, releases=releases)
    outside.order("rollback")
    outside.settle_down()
    numbers = outside.situation.memory.last_release
    outside.pass_time(9999)
    outside.settle_down()
    assert serving(outside) == "shop:2"
    assert outside.situation.memory.last_release == numbers
    assert outcomes(outside)[numbers] == "failed"


def test_a_manual_promotion_waits_and_then_switches() -> None:
    strategy = {"type": "blue_green", "promote": "manual"}
    outside = an_outside(strategy=strategy)
    outside.ask(a_spec(strategy=strategy, image="shop:2"))
    outside.settle_down()
    assert serving(outside) == "shop:1"
    assert outside.situation.memory.rollout is not None
    assert outside.situation.memory.rollout.waits_for == "promotion"
    outside.order("promote")
    outside.settle_down()
    assert serving(outside) == "shop:2"


def test_a_newer_spec_takes_the_place_of_green_that_waits() -> None:
    strategy = {"type": "blue_green", "promote": "manual"}
    outside = an_outside(strategy=strategy)
    outside.ask(a_spec(strategy=strategy, image="shop:2"))
    outside.settle_down()
    follow(outside, image="shop:3")
    assert serving(outside) == "shop:3"
    assert outcomes(outside)[2] == "superseded"


def test_blue_takes_the_traffic_back_in_one_switch_while_it_is_warm() -> None:
    outside = an_outside(strategy="blue_green", replicas=2)
    outside.ask(a_spec(strategy={"type": "blue_green", "keep_old": "10m"}, replicas=2, image="shop:2"))
    for _ in range(40):
        outside.pass_once()
        outside.react()
        outside.pass_time(0.05)
    assert outcomes(outside)[2] == "live"
    before = len(outside.story)
    outside.order("rollback")
    for _ in range(20):
        outside.pass_once()
        outside.react()
    told = outside.story[before:]
    assert serving(outside) == "shop:1"
    assert not [line for line in told if line.strip().startswith("start")]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_abort_brings_the_old_release_back(strategy: str) -> None:
    outside = an_outside(strategy=strategy, replicas=2)
    outside.ask(a_spec(strategy=strategy, replicas=2, image="bad:2", deadline="1h"))
    for _ in range(12):
        outside.pass_once()
        outside.react()
        outside.pass_time(0.05)
    outside.order("abort")
    outside.settle_down()
    outside.check_rest()
    assert (serving(outside), outcomes(outside)[2]) == ("shop:1", "rolled_back")


def test_restart_replaces_every_container_with_the_same_image() -> None:
    outside = an_outside(replicas=2)
    old = {r.id for r in outside.replicas}
    outside.order("restart")
    outside.settle_down()
    outside.check_rest()
    assert serving(outside) == "shop:1"
    assert not old & {r.id for r in outside.replicas}


def test_an_apply_of_an_unchanged_spec_makes_a_release_only_if_the_image_moved() -> None:
    outside = an_outside()
    order = outside.order("apply")
    outside.settle_down()
    assert outside.answers[order] == "unchanged"
    outside.situation = replace(
        outside.situation,
        releases={1: replace(outside.situation.releases[1], image_id="sha256:older")},
    )
    order = outside.order("apply")
    key = f"shop/check-{order}"
    outside.pass_once()
    found = replace(outside.situation.world.resolutions[key], image_id="sha256:newer")
    world = replace(outside.situation.world, resolutions={**outside.situation.world.resolutions, key: found})
    outside.situation = replace(outside.situation, world=world)
    outside.settle_down()
    assert outside.answers[order] == "release"
    assert outside.situation.releases[2].reason == "image moved"


def test_a_dead_replica_is_unrouted_and_made_anew_with_growing_pauses() -> None:
    outside = an_outside()
    for _ in range(4):
        outside.change(outside.replicas[0], state="exited", exit_code=137)
        outside.settle_down()
    assert outside.situation.memory.slots[1].exits == 4
    outside.check_rest()
    outside.pass_time(700)
    outside.settle_down()
    assert not outside.situation.memory.slots


def test_if_every_probe_fails_at_once_those_that_accept_stay_routed() -> None:
    outside = an_outside(replicas=2)
    verdicts = {
        r.id: Verdict(ever_ready=True, accepts=True, since=outside.situation.now.steady) for r in outside.replicas
    }
    world = replace(outside.situation.world, verdicts=verdicts)
    outside.situation = replace(outside.situation, world=world)
    outside.pass_once()
    routes = outside.situation.world.routing.published
    assert routes is not None
    assert [u.state for u in routes.upstreams] == ["ready", "ready"]


def test_suspended_moves_nothing_but_takes_the_dead_out_of_the_table() -> None:
    outside = an_outside(replicas=2)
    outside.order("suspend")
    outside.ask(a_spec(replicas=2, image="shop:2"))
    outside.change(outside.replicas[0], state="exited", exit_code=1)
    calls = outside.writing_calls
    for _ in range(20):
        outside.pass_once()
        outside.react()
    assert outside.writing_calls == calls
    routes = outside.situation.world.routing.confirmed
    assert routes is not None
    assert sum(u.state == "ready" for u in routes.upstreams) == 1
    outside.order("resume")
    outside.settle_down()
    assert serving(outside) == "shop:2"


@pytest.mark.parametrize("strategy", ["rolling", "blue_green"])
def test_old_assets_are_asked_of_the_old_release_for_the_whole_drain_before_it_stops(strategy: str) -> None:
    assets = {"assets": ["/static"]}
    fields: dict[str, object] = {"strategy": strategy, "proxy": assets, "drain": "40s"}
    outside = an_outside(**fields)
    outside.ask(a_spec(image="shop:2", **fields))
    for _ in range(12):
        outside.pass_once()
        outside.react()
        outside.pass_time(0.05)
    assert serving(outside) == "shop:2"
    old = next(r for r in outside.replicas if r.release == 1)
    routes = outside.situation.world.routing.confirmed
    assert routes is not None
    assert {u.id: u.state for u in routes.upstreams}[old.id] == "assets"
    outside.pass_time(41)
    outside.pass_once()
    routes = outside.situation.world.routing.published
    assert routes is not None
    assert {u.id: u.state for u in routes.upstreams}[old.id] == "draining"
    outside.settle_down()
    outside.check_rest()


def test_what_failed_is_never_asked_for_assets() -> None:
    assets = {"assets": ["/static"]}
    outside = an_outside(proxy=assets)
    outside.ask(a_spec(image="sour:1", bake="30s", proxy=assets))
    for _ in range(60):
        outside.pass_once()
        outside.react()
        routes = outside.situation.world.routing.published
        assert routes is None or not [u for u in routes.upstreams if u.state == "assets" and u.release == 2]
        outside.pass_time(0.05)
    outside.settle_down()
    assert serving(outside) == "shop:1"


def test_a_spec_may_suspend_its_app_and_let_it_go_again() -> None:
    outside = an_outside(replicas=1)
    outside.ask(a_spec(image="shop:2", suspend=True))
    calls = outside.writing_calls
    apply, resume = outside.order("apply"), outside.order("resume")
    for _ in range(10):
        outside.pass_once()
        outside.react()
    assert (outside.writing_calls, outside.situation.memory.last_release) == (calls, 1)
    assert (outside.answers[apply], outside.answers[resume]) == ("waiting", "conflict")
    follow(outside, image="shop:2")
    assert serving(outside) == "shop:2"


def test_a_restart_is_no_reason_to_try_again_what_failed() -> None:
    outside = an_outside()
    follow(outside, image="bad:1", deadline="20s")
    outside.order("restart")
    outside.settle_down()
    outside.check_rest()
    assert serving(outside) == "shop:1"
    assert [r.spec.image for r in outside.situation.releases.values()].count("bad:1") == 1


def test_maintenance_is_done_once_the_confirmed_table_says_so() -> None:
    outside = an_outside()
    order = outside.order("maintenance", on=True, message="back at noon")
    outside.pass_once()
    assert order not in outside.answers
    outside.react()
    outside.pass_once()
    assert outside.answers[order] == "done"
    routes = outside.situation.world.routing.confirmed
    assert routes is not None
    assert (routes.mode, routes.message) == ("maintenance", "back at noon")


def test_an_empty_history_adopts_what_runs() -> None:
    outside = an_outside(replicas=2)
    ids = {r.id for r in outside.replicas}
    outside.situation = replace(outside.situation, memory=Memory(), releases={})
    outside.settle_down()
    outside.check_rest()
    assert {r.id for r in outside.replicas} == ids
    assert not outside.situation.memory.held


def test_an_empty_history_holds_an_app_whose_file_differs_until_retry() -> None:
    outside = an_outside()
    ids = {r.id for r in outside.replicas}
    spec = a_spec(image="shop:2")
    outside.situation = replace(outside.situation, memory=Memory(), releases={}, standing=a_standing(spec))
    outside.settle_down()
    assert {r.id for r in outside.replicas} == ids
    assert outside.situation.memory.held
    outside.order("retry")
    outside.settle_down()
    assert serving(outside) == "shop:2"


def test_after_a_reboot_existing_containers_are_started_not_replaced() -> None:
    outside = an_outside(replicas=2)
    ids = {r.id for r in outside.replicas}
    later = replace(outside.situation.now, wall=outside.situation.now.wall + 7200, steady=20.0, boot="boot-2")
    outside.situation = replace(outside.situation, now=later)
    for replica in outside.replicas:
        outside.change(replica, state="exited", exit_code=255)
    outside.settle_down()
    outside.check_rest()
    assert {r.id for r in outside.replicas} == ids


def test_a_crash_is_counted_though_the_clock_was_set_forward_since_its_start() -> None:
    outside = an_outside(replicas=2)
    first = outside.replicas[0]
    set_forward = replace(outside.situation.now, wall=outside.situation.now.wall + 7200)
    outside.situation = replace(outside.situation, now=set_forward)
    outside.change(first, state="exited", exit_code=1)
    outside.settle_down()
    assert outside.situation.memory.slots[first.index].exits == 1
    assert first.id not in {replica.id for replica in outside.replicas}


def test_time_without_an_engine_does_not_count_for_a_deadline() -> None:
    outside = an_outside()
    outside.ask(a_spec(image="bad:1", deadline="20s"))
    for _ in range(10):
        outside.pass_once()
        outside.react()
    outside.engine(up=False)
    outside.pass_once()
    outside.pass_time(3600)
    outside.engine(up=True)
    for _ in range(5):
        outside.pass_once()
        outside.react()
    assert outside.situation.memory.rollout is not None
    assert not outside.situation.memory.rollout.failing


def test_what_never_ran_can_be_deleted() -> None:
    standing = a_standing(None, invalid="shop.yaml:2: image: found 5")
    order = Order(id=7, app="shop", verb="delete", by="kim", at=at())
    waits = decide(a_situation(standing=standing, orders=(order,)))
    assert not waits.answers, "its file is still there"
    done = decide(a_situation(standing=replace(standing, invalid=""), orders=(order,)))
    assert [(a.order, a.result, a.text) for a in done.answers] == [(7, "done", "removed")]
    assert (done.memory.removed, done.memory.change) == (True, 7)
    assert not done.operations


def a_failing_recreate() -> Outside:
    """Return an app whose recreate has just failed: the old one is stopped, requests are held."""
    outside = an_outside(strategy="recreate", replicas=1, deadline="20s")
    outside.ask(a_spec(strategy="recreate", replicas=1, image="bad:1", deadline="20s"))
    for _ in range(200):
        rollout = outside.situation.memory.rollout
        if rollout is not None and rollout.failing:
            return outside
        outside.pass_once()
        outside.react()
        outside.pass_time(1)
    raise AssertionError("it did not fail")


def pass_to_restart(outside: Outside, fault: str) -> None:
    """Make passes up to the one that starts the old one again, and have that one go wrong."""
    while not any(isinstance(o, RestartReplica) for o in decide(outside.situation).operations):
        outside.pass_once()
        outside.react()
    operations = decide(outside.situation).operations
    at = next(i for i, o in enumerate(operations) if isinstance(o, RestartReplica))
    outside.pass_once(Fault(at=at, how=fault))


@pytest.mark.parametrize("fault", ["crash", "crash_after"])
def test_the_old_one_of_a_failed_recreate_gets_its_own_time_however_late_it_was_started(fault: str) -> None:
    outside = a_failing_recreate()
    pass_to_restart(outside, fault)
    outside.pass_time(60)  # the controller was away
    modes = []
    for _ in range(60):
        outside.pass_once()
        published = outside.situation.world.routing.published
        modes.append((published.mode, any(u.state == "ready" for u in published.upstreams)))
        outside.react()
        outside.pass_time(0.2)
    assert ("serve", False) not in modes
    assert modes[-1] == ("serve", True)


def test_an_old_one_that_can_never_be_started_again_is_not_waited_for_without_an_end() -> None:
    outside = a_failing_recreate()
    for _ in range(100):
        if outside.situation.memory.rollout is None:
            break
        pass_to_restart(outside, "fail")
        outside.pass_time(1)
    assert outside.situation.memory.rollout is None
    assert outside.situation.memory.failed == 2


def test_a_passed_deadline_of_an_empty_slot_does_not_keep_the_loop_busy() -> None:
    outside = Outside()
    outside.ask(a_spec(image="dies:1", replicas=1, deadline="20s"))
    for _ in range(3):
        outside.pass_once()
    outside.pass_time(31)  # it was started, and nobody looked
    passes = 0
    while outside.situation.memory.rollout is not None:
        decision = outside.pass_once()
        outside.react()
        outside.pass_time(decision.look_again_s or 0.05)
        passes += 1
        assert passes < 40, outside.story[-10:]
    assert outside.situation.memory.failed == 1


@pytest.mark.parametrize(("late_s", "release"), [(-5.0, 1), (5.0, 2)])
def test_a_release_that_failed_before_its_own_order_was_stored_is_not_tried_twice(late_s: float, release: int) -> None:
    outside = Outside()
    begun = outside.situation.now
    outside.ask(a_spec(image="gone:1"))
    outside.settle_down()
    wanted = outside.situation.standing.wanted
    assert wanted is not None
    assert outside.situation.memory.failed == 1
    order = Order(id=9, app="shop", verb="apply", by="kim", at=begun.later(late_s), digest=wanted.digest)
    outside.situation = replace(outside.situation, orders=(order,))
    decision = decide(outside.situation)
    assert [(a.order, a.result, a.release) for a in decision.answers] == [(9, "release", release)]
