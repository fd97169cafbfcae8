"""What a secret's change does: a release of its own, tried once, with the image and the spec that serve."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.plan.foresee import preview
from controller.plan.operations import ResolveImage, RunBefore
from controller.plan.situation import Release
from controller.world.model import Replica
from tests.builders import a_situation, a_spec
from tests.plan.outside import Outside


@dataclass
class Keyring(Outside):
    """An outside with secrets; replicas made with a version in *poison* never get ready."""

    poison: int = -1

    def set_secrets(self, **versions: int) -> None:
        world = replace(self.situation.world, secret_versions=tuple(sorted(versions.items())))
        self.situation = replace(self.situation, world=world)

    def _image(self, replica: Replica) -> str:
        for release in self.releases:
            if release.container_digest == replica.digest and self.poison in dict(release.secret_versions).values():
                return "bad:1"
        return super()._image(replica)

    @property
    def releases(self) -> tuple[Release, ...]:
        return tuple(release for _, release in sorted(self.situation.releases.items()))

    def told(self) -> list[tuple[int, str, str, str]]:
        return [(r.number, r.kind, r.outcome, r.reason) for r in self.releases]


def a_keyring(secrets: tuple[str, ...] = ("KEY",), **spec: object) -> Keyring:
    outside = Keyring(situation=a_situation(a_spec(secrets=list(secrets), deadline="20s", **spec)))
    outside.set_secrets(KEY=3, OTHER=4)
    outside.settle_down()
    return outside


def test_a_changed_secret_makes_one_release_that_replaces_every_container() -> None:
    outside = a_keyring(replicas=2)
    outside.set_secrets(KEY=9, OTHER=4)
    outside.settle_down()
    outside.check_rest()
    assert outside.told()[1:] == [(2, "apply", "live", "secret changed: KEY")]
    assert {replica.release for replica in outside.replicas} == {2}


def test_a_secret_that_the_app_does_not_name_changes_nothing() -> None:
    outside = a_keyring()
    outside.set_secrets(KEY=3, OTHER=5, NEW=6)
    outside.settle_down()
    assert [number for number, *_ in outside.told()] == [1]


def test_a_changed_secret_resolves_no_image_and_runs_no_before() -> None:
    outside = a_keyring(before={"command": ["migrate"]})
    outside.set_secrets(KEY=9)
    seen = []
    for _ in range(60):
        seen += outside.pass_once().operations
        outside.react()
        outside.pass_time(0.5)
    assert len(outside.releases) == 2
    assert not [one for one in seen if isinstance(one, ResolveImage | RunBefore)]


def test_a_secret_that_makes_replicas_fail_is_tried_once_and_the_old_ones_serve() -> None:
    outside = a_keyring()
    outside.poison = 9
    outside.set_secrets(KEY=9)
    outside.settle_down()
    outside.pass_time(3600)
    outside.settle_down()
    assert outside.told()[1:] == [(2, "apply", "failed", "secret changed: KEY")]
    assert {replica.release for replica in outside.replicas} == {1}
    outside.set_secrets(KEY=10)
    outside.settle_down()
    assert outside.told()[2] == (3, "apply", "live", "secret changed: KEY")


def test_a_secret_that_is_not_set_fails_the_release_with_the_next_command_before_anything_starts() -> None:
    outside = a_keyring()
    calls = outside.writing_calls
    outside.ask(a_spec(secrets=["KEY", "MISSING"]))
    outside.settle_down()
    assert outside.releases[-1].outcome == "failed"
    assert outside.releases[-1].message == "secret MISSING is not set; set it with: oton secret set shop MISSING"
    assert outside.writing_calls == calls
    outside.set_secrets(KEY=3, MISSING=12)
    outside.settle_down()
    assert outside.releases[-1].outcome == "live"


def test_a_preview_says_that_a_secret_is_not_set() -> None:
    spec = a_spec(image="shop:2", secrets=["KEY", "MISSING"])
    lines = [" ".join(line.split()) for line in preview(a_keyring().situation, spec)]
    assert lines == ["fail secret MISSING is not set; set it with: oton secret set shop MISSING"]


def test_a_removed_secret_leaves_what_runs_with_the_value_it_was_made_with() -> None:
    outside = a_keyring()
    outside.set_secrets(OTHER=4)
    outside.settle_down()
    assert [number for number, *_ in outside.told()] == [1]


def test_a_rollback_uses_todays_values() -> None:
    outside = a_keyring()
    outside.ask(a_spec(image="shop:2", secrets=["KEY"], deadline="20s"))
    outside.settle_down()
    outside.set_secrets(KEY=9)
    outside.settle_down()
    outside.order("rollback", to=1)
    outside.settle_down()
    last = outside.releases[-1]
    assert (last.kind, last.outcome, last.secret_versions) == ("rollback", "live", (("KEY", 9),))
    assert {replica.digest for replica in outside.replicas} == {last.container_digest}


def test_a_rollback_to_a_spec_with_other_secrets_counts_their_versions() -> None:
    outside = a_keyring(secrets=("OTHER",))
    outside.ask(a_spec(image="shop:2", secrets=["KEY"], deadline="20s"))
    outside.settle_down()
    outside.order("rollback")
    outside.settle_down()
    assert outside.releases[-1].secret_versions == (("OTHER", 4),)


def test_a_pinned_app_gets_new_values_and_stays_pinned_and_a_bad_one_is_tried_once() -> None:
    outside = a_keyring()
    outside.ask(a_spec(image="shop:2", secrets=["KEY"], deadline="20s"))
    outside.settle_down()
    outside.order("rollback", to=1)
    outside.settle_down()
    pin = outside.situation.memory.pin
    assert pin is not None
    outside.set_secrets(KEY=9)
    outside.settle_down()
    assert outside.told()[-1][1:] == ("restart", "live", "secret changed: KEY")
    assert outside.releases[-1].spec.image == "shop:1"
    outside.poison = 10
    outside.set_secrets(KEY=10)
    outside.settle_down()
    outside.pass_time(3600)
    outside.settle_down()
    assert [kind for _, kind, outcome, _ in outside.told() if outcome == "failed"] == ["restart"]
    assert outside.situation.memory.pin == pin


def test_a_secret_that_changes_in_the_middle_of_a_rollout_makes_the_next_release() -> None:
    outside = a_keyring()
    outside.ask(a_spec(image="shop:2", secrets=["KEY"], deadline="20s"))
    for _ in range(3):
        outside.pass_once()
    outside.set_secrets(KEY=9)
    outside.settle_down()
    outside.check_rest()
    assert outside.releases[-1].secret_versions == (("KEY", 9),)
    assert {replica.digest for replica in outside.replicas} == {outside.releases[-1].container_digest}


@given(st.lists(st.tuples(st.sampled_from(["KEY", "OTHER", "none"]), st.integers(0, 4)), max_size=6))
@settings(max_examples=60, deadline=None)
def test_whenever_secrets_are_set_the_app_ends_with_the_values_of_today(changes: list[tuple[str, int]]) -> None:
    outside = Keyring(situation=a_situation(a_spec(secrets=["KEY", "OTHER"], deadline="20s")))
    known: dict[str, int] = {}
    for number, (name, passes) in enumerate([*changes, ("KEY", 0), ("OTHER", 0)], 1):
        for _ in range(passes):
            outside.pass_once()
            outside.react()
            outside.pass_time(0.5)
        if name != "none":
            known[name] = number
            outside.set_secrets(**known)
    outside.settle_down()
    outside.check_rest()
    live = outside.situation.releases[outside.situation.memory.live or 0]
    assert dict(live.secret_versions) == known
    assert {replica.digest for replica in outside.replicas} == {live.container_digest}
