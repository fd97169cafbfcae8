"""Nothing that a pass keeps has a secret in it; what a container gets, it gets by its release."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from controller.errors import Refused
from controller.loop.execute import execute
from controller.loop.handover import hand_again, hand_out
from controller.loop.masking import mask_done, mask_world
from controller.loop.observe import Ports
from controller.plan.operations import KeepLogs, Operation, RemoveReplica, RestartReplica, StartReplica
from controller.plan.situation import Done, Release, Situation
from controller.world.model import Replica, Resolution, Verdict, World
from tests.builders import a_situation, a_spec


def hide(text: str) -> str:
    return text.replace("s3cret", "***")


@dataclass
class Keys:
    values_of: Mapping[str, str] = field(default_factory=lambda: {"TOKEN": "s3cret", "CERT": "pem"})

    def versions(self, app: str) -> Mapping[str, int]:
        return dict.fromkeys(self.values_of, 1)

    def values(self, app: str, names: Collection[str]) -> Mapping[str, str]:
        return {name: self.values_of[name] for name in names if name in self.values_of}

    def mask(self, app: str, text: str) -> str:
        return hide(text)


@dataclass
class Shelf:
    laid: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def lay(self, app: str, key: str, values: Mapping[str, str], *, anew: bool = True) -> Mapping[str, str]:
        self.laid[app, key] = dict(values)
        return {name: f"/mem/{app}/{key}/{name}" for name in values}

    def has(self, app: str, key: str, names: Collection[str]) -> bool:
        return set(names) <= self.laid.get((app, key), {}).keys()

    def drop(self, app: str, key: str) -> None:
        self.laid.pop((app, key), None)


def a_release() -> Release:
    spec = a_spec(secrets=["TOKEN", {"name": "CERT", "file": True}])
    return Release(number=2, spec=spec, digest="d", container_digest="c")


def test_all_text_that_comes_out_of_containers_is_masked_before_anything_is_decided_on_it() -> None:
    replica = Replica(
        id="1", name="shop-r1-1", app="shop", release=1, index=1, digest="d", error="exec s3cret", health_log="s3cret?"
    )
    world = World(
        replicas=(replica,),
        verdicts={"1": Verdict(answer='GET /: 500: "s3cret"')},
        resolutions={"k": Resolution(state="failed", error="login s3cret")},
    )
    assert "s3cret" not in repr(mask_world(world, hide))
    assert mask_world(world, hide).replicas[0].name == "shop-r1-1"


def test_what_came_out_of_an_operation_is_masked() -> None:
    done = Done(KeepLogs("1", "shop-r1-1", "it ended"), "failed", "no s3cret", lines=("a s3cret", "b"))
    masked = mask_done(done, hide)
    assert (masked.text, masked.lines) == ("no ***", ("a ***", "b"))


def test_a_secret_is_a_variable_or_a_file_and_never_both() -> None:
    shelf = Shelf()
    handed = hand_out("shop", a_release(), Keys(), shelf)
    assert handed.environment == {"TOKEN": "s3cret"}
    assert handed.files == {"CERT": "/mem/shop/c/CERT"}


def test_a_secret_that_is_not_set_names_the_next_command() -> None:
    with pytest.raises(Refused, match="secret CERT is not set; set it with: oton secret set shop CERT"):
        hand_out("shop", a_release(), Keys({"TOKEN": "s3cret"}), Shelf())


def test_a_container_that_is_started_again_finds_its_files_without_their_secret_if_they_are_still_there() -> None:
    shelf = Shelf({("shop", "c"): {"CERT": "old"}})
    hand_again("shop", a_release(), Keys({}), shelf)
    assert shelf.laid["shop", "c"] == {"CERT": "old"}


def test_a_container_that_is_started_again_after_a_reboot_gets_its_files_anew() -> None:
    shelf = Shelf()
    hand_again("shop", a_release(), Keys(), shelf)
    assert shelf.laid["shop", "c"] == {"CERT": "pem"}


@dataclass
class Machine:
    """An engine that notes which secret files lay there at each call."""

    shelf: Shelf
    seen: list[tuple[str, list[str]]] = field(default_factory=list)

    def note(self, what: str) -> str:
        self.seen.append((what, sorted(key for _, key in self.shelf.laid)))
        return what

    def start(self, plan: Any) -> str:
        return self.note(f"start {sorted(plan.files)} {sorted(plan.secrets)}")

    def restart(self, replica: str) -> None:
        self.note(f"restart {replica}")

    def remove(self, replica: str) -> None:
        self.note(f"remove {replica}")

    def tail(self, replica: str) -> tuple[str, ...]:
        return ("my s3cret", "bye")


def carry_out(
    shelf: Shelf, operations: Sequence[Operation], replicas: Sequence[Replica]
) -> tuple[Machine, tuple[Done, ...]]:
    machine = Machine(shelf)
    nothing: Any = None
    ports = Ports(
        engine=machine,  # type: ignore[arg-type]
        prober=nothing,
        publisher=nothing,
        history=nothing,
        directory=nothing,
        clock=nothing,
        secrets=Keys(),
        files=shelf,
    )
    world = World(replicas=tuple(replicas))
    situation: Situation = a_situation(world=world, releases={2: a_release()})
    return machine, execute(situation, operations, ports)


def a_replica(number: int, digest: str = "c") -> Replica:
    return Replica(id=str(number), name=f"shop-r2-{number}", app="shop", release=2, index=number, digest=digest)


def test_files_lie_there_before_a_container_is_started_for_the_first_time_and_again() -> None:
    machine, _ = carry_out(Shelf(), [StartReplica(release=2, index=1, because="")], [])
    assert machine.seen == [("start ['CERT'] ['TOKEN']", ["c"])]
    machine, _ = carry_out(Shelf(), [RestartReplica("1", "n", "")], [a_replica(1)])
    assert machine.seen == [("restart 1", ["c"])]


def test_files_go_with_the_last_of_several_containers_removed_in_one_pass() -> None:
    shelf = Shelf({("shop", "c"): {"CERT": "x"}, ("shop", "d"): {"CERT": "y"}})
    both = [RemoveReplica("1", "n", ""), RemoveReplica("2", "n", "")]
    carry_out(shelf, both[:1], [a_replica(1), a_replica(2), a_replica(3, "d")])
    assert set(shelf.laid) == {("shop", "c"), ("shop", "d")}
    carry_out(shelf, both, [a_replica(1), a_replica(2), a_replica(3, "d")])
    assert set(shelf.laid) == {("shop", "d")}


def test_files_of_a_container_that_takes_a_removed_ones_place_stay() -> None:
    shelf = Shelf({("shop", "c"): {"CERT": "x"}})
    start = StartReplica(release=2, index=1, because="heals")
    carry_out(shelf, [RemoveReplica("1", "n", ""), start], [a_replica(1)])
    assert set(shelf.laid) == {("shop", "c")}


def test_kept_log_lines_are_masked() -> None:
    _, (done,) = carry_out(Shelf(), [KeepLogs("1", "n", "it ended")], [a_replica(1)])
    assert done.lines == ("my ***", "bye")
