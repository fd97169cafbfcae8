"""A directory with a source of its own: what counts in it, and what may be changed in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.errors import KeptElsewhere
from controller.intake.origin import Origin
from tests.intake.rig import Rig, a_document


@pytest.fixture
def sourced(rig: Rig) -> Rig:
    """A rig whose files but those in `local` come from elsewhere."""

    def locked(file: str) -> str:
        return "" if file.startswith(f"{rig.root}/local/") else "Git"

    rig.memory.origin = Origin(
        only=("deploy/prod", "local"),
        uploads="local",
        locked=locked,
        source=lambda file: ("git 1a2b3c4", "Kim: Ship") if locked(file) else ("", ""),
        troubles=lambda: ("it is stuck",),
    )
    rig.restart()
    return rig


def test_only_the_folders_that_count_are_read(sourced: Rig) -> None:
    for place in ("deploy/prod/a.yaml", "deploy/prod/deep/b.yaml", "local/c.yaml"):
        sourced.write(place, a_document(Path(place).stem))
    for place in ("d.yaml", "deploy/e.yaml", "deploy/production/f.yaml", "other/g.yaml"):
        sourced.write(place, a_document(Path(place).stem))
    sourced.rest()
    assert set(sourced.images()) == {"a", "b", "c"}


def test_what_stands_in_a_file_is_wanted_by_its_source_for_its_reason(sourced: Rig) -> None:
    sourced.write("deploy/prod/shop.yaml", a_document())
    sourced.write("local/mine.yaml", a_document("mine"))
    sourced.rest()
    wanted = sourced.desired.standing("shop").wanted
    assert wanted is not None
    assert (wanted.by, wanted.why) == ("git 1a2b3c4", "Kim: Ship")
    mine = sourced.desired.standing("mine").wanted
    assert mine is not None
    assert (mine.by, mine.why) == ("file", "")


def test_an_app_of_the_source_is_neither_replaced_nor_deleted_here(sourced: Rig) -> None:
    path = sourced.write("deploy/prod/shop.yaml", a_document())
    sourced.rest()
    with pytest.raises(KeptElsewhere, match=r"shop comes from Git \(.*/deploy/prod/shop.yaml\): change it in Git"):
        sourced.desired.upload("shop", a_document(image="shop:2").encode(), "ann")
    with pytest.raises(KeptElsewhere):
        sourced.desired.delete("shop")
    assert path.read_text() == a_document()
    assert not sourced.gone()


def test_an_app_that_left_the_source_and_is_held_can_be_deleted(sourced: Rig) -> None:
    path = sourced.write("deploy/prod/shop.yaml", a_document())
    sourced.write("deploy/prod/api.yaml", a_document("api"))
    sourced.rest()
    path.unlink()
    (sourced.root / "deploy/prod/api.yaml").unlink()
    sourced.rest(10)
    assert "shop" in sourced.held()
    sourced.desired.delete("shop")
    assert "shop" in sourced.gone()


def test_a_new_app_goes_to_the_local_folder_and_is_ours_from_then_on(sourced: Rig) -> None:
    sourced.look()
    done = sourced.desired.upload("mine", a_document("mine").encode(), "ann")
    assert done.file == f"{sourced.root}/local/mine.yaml"
    sourced.desired.upload("mine", a_document("mine", image="mine:2").encode(), "ann")
    assert (sourced.root / "local/mine.yaml").read_text() == a_document("mine", image="mine:2")
    sourced.desired.delete("mine")
    assert not (sourced.root / "local/mine.yaml").exists()


def test_what_is_wrong_with_the_source_is_a_problem_of_the_directory(sourced: Rig) -> None:
    sourced.look()
    assert [problem.text for problem in sourced.desired.problems()] == [f"{sourced.root}: it is stuck"]
