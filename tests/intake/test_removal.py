"""An app goes when it has been gone for 3 s, and not when it looks like a mistake."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.intake.removal import GRACE_S, WINDOW_S, Absence, judge_absences
from tests.intake.rig import Rig, a_document, several, swap_link


def apps(rig: Rig, names: str) -> dict[str, Path]:
    paths = {name: rig.write(f"{name}.yaml", a_document(name)) for name in names}
    rig.look()
    return paths


def test_a_deleted_app_is_gone_after_three_seconds(rig: Rig):
    paths = apps(rig, "ab")
    paths["a"].unlink()
    rig.rest(2.9)
    assert not rig.gone()
    assert rig.image("a") == "shop:1"
    rig.rest(0.5)
    assert rig.gone() == {"a"}
    assert rig.desired.standing("a").wanted is None
    assert rig.memory.stored["a"].gone


@pytest.mark.parametrize("text", [a_document("b"), several(a_document("b"), a_document("c"))])
def test_a_document_taken_out_or_renamed_is_gone(rig: Rig, text: str):
    apps(rig, "xy")
    rig.write("two.yaml", several(a_document("a"), a_document("b")))
    rig.rest(1)
    rig.write("two.yaml", text)
    rig.rest(4)
    assert rig.gone() == {"a"}


def test_one_that_reappears_in_another_file_has_moved(rig: Rig):
    paths = apps(rig, "ab")
    rings = list(rig.memory.rings)
    paths["a"].rename(rig.root / "z.yaml")
    rig.rest(60)
    assert not rig.gone() | rig.held()
    assert rig.desired.standing("a").file == f"{rig.root}/z.yaml"
    assert rig.invalid("a") == ""
    wanted = rig.desired.standing("a").wanted
    assert wanted is not None
    assert wanted.file == f"{rig.root}/z.yaml"
    assert set(rig.memory.rings[len(rings) :]) <= {"a"}


def test_deleted_and_added_again_within_two_seconds_nothing_happens(rig: Rig):
    paths = apps(rig, "ab")
    rings = list(rig.memory.rings)
    for _ in range(5):
        paths["a"].unlink()
        rig.rest(2)
        rig.write("a.yaml", a_document("a"))
        rig.rest(0.1)
    rig.rest(60)
    assert rig.memory.rings == rings


def test_a_gone_app_comes_back_with_its_file(rig: Rig):
    paths = apps(rig, "ab")
    paths["a"].unlink()
    rig.rest(10)
    assert rig.gone() == {"a"}
    rig.write("a.yaml", a_document("a", image="a:2"))
    rig.rest(1)
    assert not rig.gone()
    assert rig.image("a") == "a:2"


def test_more_than_half_of_four_is_held(rig: Rig):
    paths = apps(rig, "abcd")
    for name in "abc":
        paths[name].unlink()
    rig.rest(3600)
    assert rig.held() == set("abc")
    assert rig.desired.standing("a").held == "3 of 4 apps are gone within 60 s"
    assert rig.image("a") == "shop:1"


def test_half_of_four_is_removed(rig: Rig):
    paths = apps(rig, "abcd")
    for name in "ab":
        paths[name].unlink()
    rig.rest(4)
    assert rig.gone() == set("ab")


def test_one_after_another_within_a_minute_is_held_from_more_than_half_on(rig: Rig):
    paths = apps(rig, "abcde")
    for name in "abc":
        paths[name].unlink()
        rig.rest(15)
    assert rig.gone() == set("ab")
    assert rig.held() == set("c")


def test_one_after_another_at_leisure_is_removed_but_for_the_last(rig: Rig):
    paths = apps(rig, "abcd")
    for name in "abcd":
        paths[name].unlink()
        rig.rest(120)
    assert rig.gone() == set("abc")
    assert rig.desired.standing("d").held == "the only app left is gone"


def test_a_held_app_shows_why_and_nothing_stale(rig: Rig):
    paths = apps(rig, "ab")
    paths["a"].write_text("name: a\n")
    rig.rest(1)
    assert rig.invalid("a")
    for path in paths.values():
        path.unlink()
    rig.rest(5)
    assert (rig.invalid("a"), rig.held()) == ("", set("ab"))


def test_the_only_app_there_ever_was_is_removed(rig: Rig):
    paths = apps(rig, "a")
    paths["a"].unlink()
    rig.rest(4)
    assert rig.gone() == {"a"}


def test_what_is_held_is_let_go_when_the_files_are_back(rig: Rig):
    paths = apps(rig, "abcd")
    for path in paths.values():
        path.unlink()
    rig.rest(10)
    assert rig.held() == set("abcd")
    rings = len(rig.memory.rings)
    apps(rig, "abcd")
    rig.rest(60)
    assert not rig.held() | rig.gone()
    assert sorted(rig.memory.rings[rings:]) == list("abcd")


def test_a_hold_survives_a_restart(rig: Rig):
    paths = apps(rig, "ab")
    for path in paths.values():
        path.unlink()
    rig.rest(10)
    rig.restart()
    rig.rest(3600)
    assert rig.held() == set("ab")
    assert rig.image("a") == "shop:1"


def test_a_person_may_let_a_held_removal_go_on(rig: Rig):
    paths = apps(rig, "ab")
    for path in paths.values():
        path.unlink()
    rig.rest(10)
    rig.desired.forget_hold("a")
    assert (rig.gone(), rig.held()) == ({"a"}, {"b"})


def test_to_forget_a_hold_removes_nothing_that_is_there(rig: Rig):
    apps(rig, "ab")
    rig.desired.forget_hold("a")
    rig.rest(60)
    assert not rig.gone()


def test_while_the_directory_is_missing_all_is_held(rig: Rig):
    apps(rig, "a")
    rig.root.rename(rig.root.parent / "aside")
    rig.rest(60)
    assert rig.held() == {"a"}
    assert rig.desired.standing("a").held == f"the directory {rig.root} is missing"
    assert (
        rig.desired.problems()[0].text
        == f"{rig.root}: the watched directory is missing; running apps are left as they are"
    )
    (rig.root.parent / "aside").rename(rig.root)
    rig.rest(60)
    assert not rig.held() | rig.gone()
    assert not rig.desired.problems()


def test_a_directory_removed_file_by_file_is_held_too(rig: Rig):
    paths = apps(rig, "abc")
    paths["a"].unlink()
    rig.rest(0.5)
    shutil.rmtree(rig.root)
    rig.rest(60)
    assert rig.held() == set("abc")


@pytest.mark.parametrize("kept", ["", "b"])
def test_a_directory_made_anew_gives_nothing_up(rig: Rig, kept: str):
    apps(rig, "ab")
    shutil.rmtree(rig.root)
    rig.root.mkdir()
    for name in kept:
        rig.write(f"{name}.yaml", a_document(name))
    rig.rest(3600)
    assert not rig.gone()
    assert rig.held() == set("ab") - set(kept)
    assert rig.desired.standing("a").held == f"the directory {rig.root} was replaced"


def test_after_a_replacement_a_deletion_counts_again(rig: Rig):
    apps(rig, "ab")
    shutil.rmtree(rig.root)
    rig.root.mkdir()
    paths = apps(rig, "ab")
    rig.rest(5)
    paths["a"].unlink()
    rig.rest(5)
    assert rig.gone() == {"a"}


def test_a_directory_swapped_by_link_is_taken_up_whole(rig: Rig, tmp_path: Path):
    for version, names in (("1", "abc"), ("2", "ab")):
        folder = tmp_path / version
        folder.mkdir()
        for name in names:
            (folder / f"{name}.yaml").write_text(a_document(name, image=f"{name}:{version}"))
    rig.root.rmdir()
    rig.root.symlink_to(tmp_path / "1")
    rig.look()
    assert rig.images() == {"a": "a:1", "b": "b:1", "c": "c:1"}
    swap_link(rig.root, tmp_path / "2")
    rig.rest(60)
    assert rig.images() == {"a": "a:2", "b": "b:2", "c": "c:1"}
    assert rig.held() == {"c"}


def test_an_empty_directory_at_start_gives_nothing_up(rig: Rig):
    paths = apps(rig, "a")
    paths["a"].unlink()
    rig.restart()
    rig.rest(3600)
    assert rig.desired.standing("a").held == f"the directory {rig.root} was empty at start"


@pytest.mark.parametrize("state", ["missing", "unreadable"])
def test_a_directory_that_is_not_to_be_read_at_start_gives_nothing_up(
    rig: Rig, state: str, monkeypatch: pytest.MonkeyPatch
):
    apps(rig, "a")

    def refuse(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied")

    if state == "missing":
        rig.root.rename(rig.root.with_name("aside"))
    else:
        monkeypatch.setattr("os.listdir", refuse)
    rig.restart()
    rig.rest(3600)
    assert rig.desired.standing("a").held == f"the directory {rig.root} is {state}"
    monkeypatch.undo()
    if state == "missing":
        rig.root.with_name("aside").rename(rig.root)
    rig.rest(60)
    assert not rig.held() | rig.gone()
    assert rig.image("a") == "shop:1"


def test_what_was_deleted_while_nobody_looked_is_removed(rig: Rig):
    paths = apps(rig, "abc")
    paths["a"].unlink()
    rig.restart()
    rig.rest(4)
    assert rig.gone() == {"a"}


def test_what_is_found_running_and_nobody_asked_for_is_held(rig: Rig):
    rig.memory.live = {"old": frozenset()}
    apps(rig, "ab")
    rig.rest(60)
    assert rig.desired.standing("old").held == "it is running, but no file defines it"


def test_a_removed_app_that_still_drains_stays_gone(rig: Rig):
    rig.memory.live = {"a": frozenset(), "b": frozenset()}
    paths = apps(rig, "ab")
    paths["a"].unlink()
    rig.rest(60)
    assert rig.gone() == {"a"}
    rig.restart()
    rig.rest(60)
    assert (rig.gone(), rig.held()) == ({"a"}, set())


def test_an_empty_file_does_not_give_its_app_up(rig: Rig):
    paths = apps(rig, "ab")
    paths["a"].write_text("")
    rig.rest(3600)
    assert not rig.gone() | rig.held()
    paths["a"].unlink()
    rig.rest(5)
    assert rig.gone() == {"a"}


STEPS = st.lists(
    st.tuples(st.sampled_from([0.1, 1.0, 3.0, 30.0, 61.0]), st.sets(st.sampled_from("abcdef"))), max_size=12
)


@given(STEPS)
def test_no_app_is_removed_before_its_time_or_while_it_is_there(steps: list[tuple[float, set[str]]]):
    now, absences = 0.0, {}
    last_seen = dict.fromkeys("abcdef", 0.0)
    for wait, absent in [(0.0, set[str]()), *steps]:
        now += wait
        last_seen.update(dict.fromkeys(set("abcdef") - absent, now))
        before, absences = (
            absences,
            judge_absences(absences, present=set("abcdef") - absent, absent=absent, ordered=(), shaken="", now=now),
        )
        assert absences.keys() == absent
        for app, absence in absences.items():
            assert not (absence.over and absence.held)
            if absence.over:
                assert now - last_seen[app] >= GRACE_S
            if app in before and before[app].held:
                assert absence.held, "a hold ends with the file or with a person"
        assert {app for app, one in absences.items() if one.over} != set("abcdef")


@given(STEPS, st.integers(0, 12))
def test_nothing_goes_while_the_directory_is_shaken(steps: list[tuple[float, set[str]]], shaken_at: int):
    now, absences = 0.0, dict[str, Absence]()
    for number, (wait, absent) in enumerate(steps):
        now += wait
        shaken = "missing" if number == shaken_at else ""
        over = {app for app, one in absences.items() if one.over}
        absences = dict(
            judge_absences(absences, present=set("abcdef") - absent, absent=absent, ordered=(), shaken=shaken, now=now)
        )
        if shaken:
            assert {app for app, one in absences.items() if one.over} <= over


def test_deletions_that_were_ordered_are_no_accident():
    absences = judge_absences({}, present="d", absent="abc", ordered="abc", shaken="", now=0.0)
    assert all(one.over for one in absences.values())
    absences = judge_absences(absences, present="ef", absent="abcd", ordered="", shaken="", now=WINDOW_S / 2)
    assert not absences["d"].held


def test_the_last_app_may_be_renamed_but_two_at_once_are_an_accident(rig: Rig):
    paths = apps(rig, "ab")
    paths["b"].unlink()
    rig.rest(GRACE_S + 1)
    assert rig.gone() == {"b"}
    rig.clock.move(WINDOW_S)
    rig.write("a.yaml", a_document("c"))
    rig.rest(GRACE_S + 1)
    assert rig.gone() == {"a", "b"}
    rig.write("d.yaml", a_document("d"))
    rig.rest(1)
    for name in ("a.yaml", "d.yaml"):
        (rig.root / name).unlink()
    rig.write("e.yaml", a_document("e"))
    rig.rest(GRACE_S + 1)
    assert rig.desired.standing("c").held
    assert rig.desired.standing("d").held
