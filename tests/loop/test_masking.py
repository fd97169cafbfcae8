"""Nothing that a pass keeps has a secret in it; what a container gets, it gets by its release."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest

from controller.errors import Refused
from controller.loop.handover import hand_again, hand_out
from controller.loop.masking import mask_done, mask_world
from controller.plan.operations import KeepLogs
from controller.plan.situation import Done, Release
from controller.world.model import Replica, Resolution, Verdict, World
from tests.builders import a_spec


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
