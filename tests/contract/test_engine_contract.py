"""What every engine promises: the same tests on the fake in memory and on the real one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from controller.errors import Refused, Stale
from controller.ports import ContainerPlan, Engine
from controller.world.model import Replica
from tests.engine.kit import IMAGE, Bench, a_bench, a_plan, wait_for
from tests.fakes.engine import FakeEngine, Image


class FakeWorld:
    """The fake engine and the hands that act on it from outside."""

    def __init__(self) -> None:
        self.app = "shop"
        self.rung: list[str] = []
        self.fake = FakeEngine(self.rung.append)
        self.engine: Engine = self.fake
        self.image = "sha256:" + "a" * 64
        self.fake.any_image = False
        self.fake.images[IMAGE] = Image(id=self.image)

    def plan(self, app: str = "", **fields: Any) -> ContainerPlan:
        return a_plan(app or self.app, image=fields.pop("image", self.image), **fields)

    def plan_that(self, *, ends: int = 0, says: tuple[str, ...] = (), **fields: Any) -> ContainerPlan:
        made = f"sha256:{ends:064}"
        self.fake.images[f"ends:{ends}"] = Image(id=made, exits=ends, lines=says)
        if fields.get("kind", "replica") != "replica":
            self.fake.before_exit, self.fake.before_lines = ends, ()
        return self.plan(image=made, **fields)

    def plan_that_cannot_start(self) -> ContainerPlan:
        self.fake.images["bad"] = Image(id="sha256:bad", refuses="exec: no-such-program: executable file not found")
        return self.plan(image="sha256:bad")

    def end(self, replica: str) -> None:
        self.fake.crash(replica, 137)

    def pause(self, replica: str) -> None:
        self.fake.pause(replica)

    def vanish(self, replica: str) -> None:
        self.fake.vanish(replica)


class RealWorld:
    """The real engine and the hands that act on it from outside."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.app = bench.app
        self.rung = bench.rung
        self.engine: Engine = bench.engine
        self.image = bench.image

    def plan(self, app: str = "", **fields: Any) -> ContainerPlan:
        # With an init as process 1 the sleeper ends at SIGTERM, as an app would.
        return self.bench.plan(app, init=True, **fields)

    def plan_that(self, *, ends: int = 0, says: tuple[str, ...] = (), **fields: Any) -> ContainerPlan:
        printing = "".join(f"echo '{line}'; " for line in says)
        return self.bench.plan(**{"command": ["sh", "-c", f"{printing}exit {ends}"], **fields})

    def plan_that_cannot_start(self) -> ContainerPlan:
        return self.bench.plan(command=["no-such-program"])

    def end(self, replica: str) -> None:
        self.bench.client.kill(replica, signal="SIGKILL")

    def pause(self, replica: str) -> None:
        self.bench.client.pause(replica)

    def vanish(self, replica: str) -> None:
        self.bench.client.remove_container(replica, force=True)


World = FakeWorld | RealWorld


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with a_bench() as made:
        made.follow(made.engine.run_events, made.engine.run_pulse)
        wait_for(lambda: "" in made.rung)
        yield made


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.engine)])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "fake":
        return FakeWorld()
    shared: Bench = request.getfixturevalue("bench")
    shared.rung.clear()
    shared.renew()
    return RealWorld(shared)


def only(world: World) -> Replica:
    (replica,) = world.engine.observe(world.app)
    return replica


def is_in(world: World, state: str) -> bool:
    return only(world).state == state


def test_a_started_replica_is_seen_with_all_that_it_was_made_for(world: World) -> None:
    made = world.engine.start(world.plan(release=4, index=2, digest="d4", port=8000))
    seen = only(world)
    assert (seen.id, seen.name, seen.app) == (made, f"{world.app}-r4-2", world.app)
    assert (seen.release, seen.index, seen.digest, seen.image_id) == (4, 2, "d4", world.image)
    assert (seen.kind, seen.state, seen.exit_code, seen.drift) == ("replica", "running", None, "")
    assert (bool(seen.address), seen.port) == (True, 8000)
    assert seen.started >= seen.created - 0.001 > 0


def test_starting_twice_makes_one_container(world: World) -> None:
    # The reply to the first may have been lost, and nobody has looked since.
    assert world.engine.start(world.plan()) == world.engine.start(world.plan())
    assert len(world.engine.observe(world.app)) == 1


def test_replicas_come_sorted_and_by_app(world: World) -> None:
    for app, release, index in ((world.app, 2, 1), (world.app, 1, 2), (f"a-{world.app}", 1, 1), (world.app, 1, 1)):
        world.engine.start(world.plan(app, release=release, index=index))
    ours = {world.app, f"a-{world.app}"}
    everything = {app: found for app, found in world.engine.observe_all().items() if app in ours}
    assert list(everything) == [f"a-{world.app}", world.app]
    assert [each.name for each in everything[world.app]] == [
        f"{world.app}-r1-1",
        f"{world.app}-r1-2",
        f"{world.app}-r2-1",
    ]
    assert world.engine.observe(world.app) == everything[world.app]
    assert world.engine.observe("nobody") == ()


def test_a_stop_signal_ends_it_and_a_second_one_is_harmless(world: World) -> None:
    made = world.engine.start(world.plan())
    world.engine.signal_stop(made)
    wait_for(lambda: is_in(world, "exited"))
    world.engine.signal_stop(made)
    world.engine.kill(made)
    seen = only(world)
    assert seen.exit_code is not None
    assert seen.finished >= seen.started > 0
    assert seen.address is None


def test_kill_ends_it_at_once(world: World) -> None:
    made = world.engine.start(world.plan())
    world.engine.kill(made)
    wait_for(lambda: is_in(world, "exited"))
    assert only(world).exit_code == 137


def test_one_that_runs_is_not_removed(world: World) -> None:
    made = world.engine.start(world.plan())
    with pytest.raises(Stale):
        world.engine.remove(made)
    assert is_in(world, "running")


def test_removing_is_harmless_twice(world: World) -> None:
    made = world.engine.start(world.plan())
    world.engine.kill(made)
    wait_for(lambda: is_in(world, "exited"))
    world.engine.remove(made)
    world.engine.remove(made)
    assert world.engine.observe(world.app) == ()


def test_an_exited_one_is_started_again_with_the_same_id(world: World) -> None:
    made = world.engine.start(world.plan())
    world.engine.kill(made)
    wait_for(lambda: is_in(world, "exited"))
    world.engine.restart(made)
    world.engine.restart(made)
    assert (only(world).id, only(world).state) == (made, "running")


def test_an_exit_is_seen_with_its_code_and_rings(world: World) -> None:
    world.engine.start(world.plan_that(ends=3))
    wait_for(lambda: is_in(world, "exited"))
    assert only(world).exit_code == 3
    wait_for(lambda: world.app in world.rung)


def test_a_death_from_outside_rings_and_the_next_look_is_right(world: World) -> None:
    made = world.engine.start(world.plan())
    assert is_in(world, "running")
    world.rung.clear()
    world.end(made)
    wait_for(lambda: world.app in world.rung)
    wait_for(lambda: is_in(world, "exited"))


def test_a_paused_one_is_seen_paused_and_can_be_stopped(world: World) -> None:
    made = world.engine.start(world.plan())
    world.pause(made)
    assert is_in(world, "paused")
    world.engine.signal_stop(made)
    wait_for(lambda: is_in(world, "exited"))


def test_one_that_vanished_is_not_there_and_acting_on_it_says_look_again(world: World) -> None:
    made = world.engine.start(world.plan())
    world.vanish(made)
    assert world.engine.observe(world.app) == ()
    for act in (world.engine.signal_stop, world.engine.kill, world.engine.restart, world.engine.tail):
        with pytest.raises(Stale):
            act(made)


def test_a_dead_one_in_the_slot_does_not_stop_a_new_one(world: World) -> None:
    dead = world.engine.start(world.plan())
    world.engine.kill(dead)
    wait_for(lambda: is_in(world, "exited"))
    alive = world.engine.start(world.plan())
    assert alive != dead
    assert {each.name: each.state for each in world.engine.observe(world.app)} == {
        f"{world.app}-r1-1": "exited",
        f"{world.app}-r1-1-2": "running",
    }


def test_one_that_was_seen_running_gets_a_successor_beside_it(world: World) -> None:
    # As when a hand changed its limits: it serves on until the new one is ready.
    drifted = world.engine.start(world.plan())
    assert is_in(world, "running")
    successor = world.engine.start(world.plan())
    assert successor != drifted
    assert [each.state for each in world.engine.observe(world.app)] == ["running", "running"]


def test_another_digest_in_the_slot_is_another_container(world: World) -> None:
    first = world.engine.start(world.plan(digest="one"))
    second = world.engine.start(world.plan(digest="two"))
    assert first != second
    assert len(world.engine.observe(world.app)) == 2


def test_a_before_command_runs_once_however_often_it_is_asked_for(world: World) -> None:
    plan = world.plan_that(ends=5, kind="before")
    made = world.engine.start(plan)
    wait_for(lambda: is_in(world, "exited"))
    assert world.engine.start(plan) == made
    seen = only(world)
    assert (seen.kind, seen.exit_code, seen.name) == ("before", 5, f"{world.app}-r1-before")


def test_the_last_lines_come_oldest_first(world: World) -> None:
    made = world.engine.start(world.plan_that(ends=1, says=("one", "two", "x" * 700)))
    wait_for(lambda: is_in(world, "exited"))
    assert world.engine.tail(made, 2) == ("two", "x" * 500)


def test_what_cannot_start_is_refused_and_leaves_nothing(world: World) -> None:
    with pytest.raises(Refused, match=r"no-such-program.*not found"):
        world.engine.start(world.plan_that_cannot_start())
    assert world.engine.observe(world.app) == ()


def test_a_local_image_resolves_to_its_id(world: World) -> None:
    world.engine.resolve(f"{world.app}/1", IMAGE, "missing")
    wait_for(lambda: world.engine.resolutions(world.app)[f"{world.app}/1"].state == "done")
    done = world.engine.resolutions(world.app)[f"{world.app}/1"]
    assert (done.image_id, done.healthcheck, done.error) == (world.image, False, "")
    assert world.app in world.rung
    assert world.engine.resolutions(world.app[:-1]) == {}


def test_a_missing_image_that_may_not_be_pulled_fails_at_once(world: World) -> None:
    world.engine.resolve(f"{world.app}/1", "oton-test-nowhere:1", "never")
    failed = world.engine.resolutions(world.app)[f"{world.app}/1"]
    assert failed.state == "failed"
    assert "oton-test-nowhere:1" in failed.error
    assert "never" in failed.error


def test_letting_networks_go_harms_no_container_and_no_later_start(world: World) -> None:
    made = world.engine.start(world.plan(port=8000))
    world.engine.retain_networks(())
    assert only(world).address
    world.engine.kill(made)
    wait_for(lambda: is_in(world, "exited"))
    world.engine.retain_networks(())
    world.engine.restart(made)
    assert only(world).address
    world.engine.kill(made)
    wait_for(lambda: is_in(world, "exited"))
    world.engine.remove(made)
    world.engine.retain_networks(())
    world.engine.start(world.plan(port=8000))
    assert only(world).address


def test_images_are_known_by_id(world: World) -> None:
    assert world.engine.has_image(world.image)
    assert not world.engine.has_image("sha256:" + "9" * 64)
