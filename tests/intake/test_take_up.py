"""What is in the directory comes into force, and what is wrong with it is said with file and line."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from controller.intake.scan import observe_directory
from tests.intake.rig import Rig, a_document, several


def test_a_spec_dropped_into_the_directory_comes_into_force(rig: Rig):
    rig.look()
    path = rig.write("shop.yaml", a_document(image="shop:1"))
    rig.rest(0.1)
    standing = rig.desired.standing("shop")
    assert standing.wanted is not None
    assert (standing.wanted.spec.image, standing.wanted.by, standing.file) == ("shop:1", "file", str(path))
    assert (standing.invalid, standing.held, standing.gone) == ("", "", False)
    assert rig.memory.rings == ["shop"]


def test_several_documents_and_folders_are_found(rig: Rig):
    rig.write("two.yaml", several(a_document("web"), a_document("api")))
    rig.write("team/deep/worker.yml", a_document("worker"))
    rig.look()
    assert set(rig.desired.standings()) == {"web", "api", "worker"}


@pytest.mark.parametrize(
    "name",
    ["shop.txt", ".shop.yaml", ".git/shop.yaml", "a/.b/shop.yaml", "shop.yaml~", "shop.yaml.swp", "shop.yaml.tmp",
     "old~/shop.yaml", "work.tmp/shop.yaml", "shop.json"],
)  # fmt: skip
def test_names_that_do_not_count_are_left_alone(rig: Rig, name: str):
    rig.write(name, a_document())
    rig.rest()
    assert not rig.desired.standings()
    assert not rig.desired.problems()


def test_a_changed_spec_replaces_the_one_in_force(rig: Rig):
    rig.write("shop.yaml", a_document(image="shop:1"))
    rig.look()
    rig.write("shop.yaml", a_document(image="shop:2"))
    rig.rest(0.1)
    assert rig.image("shop") == "shop:2"
    assert rig.memory.rings == ["shop", "shop"]


def test_a_look_at_an_unchanged_directory_tells_nobody(rig: Rig):
    rig.write("shop.yaml", a_document())
    rig.look()
    saved, rings = list(rig.memory.saved), list(rig.memory.rings)
    rig.rest(60)
    rig.write("shop.yaml", a_document())
    rig.rest(60)
    assert (rig.memory.saved, rig.memory.rings) == (saved, rings)


def test_idle_looks_ask_nobody_for_anything(rig: Rig):
    rig.write("shop.yaml", a_document())
    rig.rest(1)
    asked = rig.memory.asked
    rig.rest(600)
    assert rig.memory.asked == asked


def test_a_folder_tree_of_any_depth_is_no_trap(rig: Rig):
    here = os.open(rig.root, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    rig.write("shop.yaml", a_document())
    rig.rest(1)
    subprocess.run(["rm", "-rf", rig.root / "d"], check=True)
    assert rig.image("shop") == "shop:1"


def test_what_a_folder_held_that_cannot_be_read_any_more_stays_in_force(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    rig.write("team/shop.yaml", a_document())
    rig.write("other.yaml", a_document("other"))
    rig.look()
    listdir = os.listdir

    def refuse(path: Path) -> list[str]:
        if Path(path).name == "team":
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    # Not by its mode: root, as whom these tests may run, can read every folder.
    monkeypatch.setattr("os.listdir", refuse)
    rig.rest(3600)
    assert rig.image("shop") == "shop:1"
    assert not rig.gone() | rig.held()
    assert (
        rig.invalid("shop") == f"{rig.root}/team/shop.yaml: cannot be read: the folder {rig.root}/team cannot be read"
    )


def test_bytes_are_read_again_when_stamps_may_deceive(rig: Rig):
    path = rig.write("shop.yaml", a_document(image="shop:2"))
    (now,) = observe_directory(rig.root, {}, full=True).files.values()
    old = replace(now, digest="another", parsed=None, racy=False)
    before = {str(path): old}
    assert observe_directory(rig.root, before, full=False).files == before
    assert observe_directory(rig.root, before, full=True).files[str(path)].digest == now.digest
    before = {str(path): replace(old, racy=True)}
    assert observe_directory(rig.root, before, full=False).files[str(path)].digest == now.digest
    assert now.racy, "it was written just now"


def test_comments_and_key_order_are_no_change(rig: Rig):
    rig.write("shop.yaml", "name: shop\nimage: shop:1\n")
    rig.look()
    rig.write("shop.yaml", "# the shop\nimage: shop:1\n\nname:   shop\n")
    rig.rest()
    assert rig.memory.rings == ["shop"]


def test_a_broken_file_keeps_the_last_good_spec_in_force(rig: Rig):
    path = rig.write("shop.yaml", a_document(image="shop:1"))
    rig.look()
    rig.write("shop.yaml", a_document(image="shop:2") + "replicas: many\n")
    rig.rest()
    assert rig.image("shop") == "shop:1"
    assert rig.invalid("shop").startswith(f'{path}:3: replicas: found "many"')


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no document"),
        (b"# nothing\n", "no document"),
        (b"name: [unclosed\n", "not YAML"),
        (b"\xff\xfe\x00n", "UTF-16"),
        (b"name: caf\xe9\nimage: x\n", "UTF-8"),
        (b"[" * 100_000, ""),
        (b"a: &a [x, x]\nb: &b [*a, *a]\nc: [" + b"*b, " * 200 + b"]\n", "alias"),
        (b"name: shop\nname: shop\nimage: x\n", "name"),
        (b"- a\n- b\n", "a mapping"),
        (b"name: shop\nimage: shop:1\nreplicas: " + b"9" * 5000 + b"\n", "replicas"),
    ],
)  # fmt: skip
def test_whatever_stands_in_a_file_is_a_problem_and_never_a_crash(rig: Rig, data: bytes, says: str):
    rig.write("shop.yaml", a_document(image="shop:1"))
    rig.write("other.yaml", a_document("other"))
    rig.look()
    rig.write("shop.yaml", data)
    rig.rest(3600)
    assert rig.image("shop") == "shop:1"
    assert says in rig.invalid("shop")
    assert not rig.gone() | rig.held()
    assert rig.invalid("other") == ""


def test_a_file_over_the_limit_is_not_read(rig: Rig):
    path = rig.write("shop.yaml", a_document(image="shop:1"))
    rig.look()
    rig.write("shop.yaml", a_document(image="shop:2") + "#" * 10 * 1024**2)
    rig.rest()
    assert rig.image("shop") == "shop:1"
    assert rig.invalid("shop") == f"{path}: found 10485785 bytes, allowed: at most 1048576 (1M)"


def test_an_unreadable_file_whose_app_is_not_known_has_a_row_of_its_own(rig: Rig):
    path = rig.write("what.yaml", "# a list\n- a\n")
    rig.rest()
    (row,) = rig.desired.problems()
    assert (row.file, row.line) == (str(path), 2)
    assert row.text.startswith(f"{path}:2")
    path.unlink()
    rig.rest()
    assert not rig.desired.problems()


def test_an_invalid_app_that_was_never_good_is_shown_and_then_forgotten(rig: Rig):
    path = rig.write("shop.yaml", "name: shop\n")
    rig.rest()
    assert "image" in rig.invalid("shop")
    assert rig.desired.standing("shop").wanted is None
    path.unlink()
    rig.rest()
    assert not rig.desired.standings()
    assert rig.memory.stored["shop"].gone


def test_a_link_that_leads_outside_is_refused(rig: Rig):
    outside = rig.root.parent / "secret.yaml"
    outside.write_text(a_document("secret"))
    (rig.root / "secret.yaml").symlink_to(outside)
    folder = rig.root.parent / "folder"
    folder.mkdir()
    (folder / "inner.yaml").write_text(a_document("inner"))
    (rig.root / "folder").symlink_to(folder)
    rig.rest()
    assert not rig.desired.standings()
    assert [row.text for row in rig.desired.problems()] == [
        f"{rig.root}/{name}: a link that leads outside the watched directory, allowed: links inside it"
        for name in ("folder", "secret.yaml")
    ]


def test_links_inside_are_followed_once_even_in_a_circle(rig: Rig):
    rig.write(".releases/3/shop.yaml", a_document())
    (rig.root / "current").symlink_to(".releases/3")
    (rig.root / ".releases/3/again").symlink_to("../../current")
    (rig.root / "round").symlink_to(".")
    rig.rest()
    assert rig.desired.standing("shop").file == f"{rig.root}/current/shop.yaml"
    assert not rig.desired.problems()


def test_a_link_that_leads_nowhere_keeps_what_it_held(rig: Rig):
    target = rig.write(".data/shop.yaml", a_document())
    (rig.root / "shop.yaml").symlink_to(".data/shop.yaml")
    rig.look()
    target.unlink()
    rig.rest(60)
    assert rig.image("shop") == "shop:1"
    assert "leads nowhere" in rig.invalid("shop")


def test_a_pipe_or_a_folder_with_a_specs_name_is_no_trap(rig: Rig):
    os.mkfifo(rig.root / "pipe.yaml")
    (rig.root / "folder.yaml").mkdir()
    rig.write("folder.yaml/shop.yaml", a_document())
    rig.rest()
    assert [row.text for row in rig.desired.problems()] == [f"{rig.root}/pipe.yaml: not a regular file"]
    assert rig.image("shop") == "shop:1"


def test_names_that_are_not_utf8_can_be_shown_and_stored(rig: Rig):
    Path(os.fsdecode(os.fsencode(rig.root) + b"/caf\xe9.yaml")).write_text(a_document())
    rig.rest()
    assert rig.desired.standing("shop").file == f"{rig.root}/caf\\xe9.yaml"


def test_what_cannot_be_stored_is_not_taken_up_until_it_can(rig: Rig):
    rig.write("shop.yaml", a_document(image="shop:1"))
    rig.look()
    rig.memory.full = True
    rig.write("shop.yaml", a_document(image="shop:2"))
    rig.rest(30)
    assert rig.image("shop") == "shop:1"
    rig.memory.full = False
    rig.rest(2)
    assert rig.image("shop") == "shop:2"


def test_the_last_good_spec_is_in_force_again_after_a_restart_with_a_broken_file(rig: Rig):
    rig.write("shop.yaml", a_document(image="shop:1"))
    rig.look()
    rig.write("shop.yaml", "name: shop\nimage:\n")
    rig.restart()
    assert rig.image("shop") == "shop:1"
    rig.rest(60)
    assert rig.image("shop") == "shop:1"
    assert rig.invalid("shop")


def test_a_restart_without_changes_tells_and_stores_nothing(rig: Rig):
    rig.write("shop.yaml", a_document())
    rig.write("broken.yaml", "name: broken\n")
    rig.rest()
    rig.restart()
    rig.memory.saved.clear()
    rig.memory.rings.clear()
    rig.rest(60)
    assert (rig.memory.saved, rig.memory.rings) == ([], [])


def test_an_invalid_document_in_a_file_of_several_leaves_all_of_them_in_force(rig: Rig):
    rig.write("all.yaml", several(a_document("web"), a_document("api"), a_document("job")))
    rig.look()
    rig.write("all.yaml", several(a_document("web", "web:2"), "naem: api\nimage: api:2\n"))
    rig.rest(60)
    assert rig.images() == {"web": "web:2", "api": "shop:1", "job": "shop:1"}
    assert not rig.gone() | rig.held()
    assert ":4: name: is missing" in rig.invalid("api")
