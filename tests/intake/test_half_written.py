"""Nobody is taken at half a word: what is being written counts when it is whole."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.plan.claims import Claim
from tests.intake.rig import Rig, a_document

GOOD = a_document(image="shop:2")


def shown(rig: Rig) -> tuple[str | None, str, bool]:
    standing = rig.desired.standing("shop")
    return rig.image("shop"), standing.invalid, bool(standing.gone or standing.held)


@pytest.fixture
def shop(rig: Rig) -> Path:
    path = rig.write("shop.yaml", a_document(image="shop:1"))
    rig.look()
    return path


@pytest.mark.parametrize("half", ["", "name: shop\nima", "name: shop\nimage: [", GOOD[:-1], "# shop\n"])
def test_half_a_file_shows_nothing_if_it_becomes_whole_within_200_ms(rig: Rig, shop: Path, half: str):
    shop.write_text(half)
    for _ in range(20):
        rig.look()
        rig.clock.move(0.01)
        assert shown(rig) == ("shop:1", "", False)
    shop.write_text(GOOD)
    rig.rest(0.1)
    assert shown(rig) == ("shop:2", "", False)


def test_a_file_that_is_gone_for_a_moment_shows_nothing(rig: Rig, shop: Path):
    shop.unlink()
    rig.rest(2.9)
    assert shown(rig) == ("shop:1", "", False)
    shop.write_text(GOOD)
    rig.rest(0.1)
    assert shown(rig) == ("shop:2", "", False)
    rig.rest(60)
    assert shown(rig) == ("shop:2", "", False)


def test_half_a_new_file_shows_nothing_either(rig: Rig):
    rig.look()
    path = rig.write("shop.yaml", "name: shop\n")
    rig.rest(0.2)
    assert not rig.desired.standings()
    path.write_text(GOOD)
    rig.rest(0.1)
    assert shown(rig) == ("shop:2", "", False)
    assert rig.memory.rings == ["shop"]


def test_a_file_that_never_gets_whole_is_a_problem_in_the_end(rig: Rig, shop: Path):
    for number in range(300):
        shop.write_text(f"name: shop\n# {number}\n")
        rig.look()
        rig.clock.move(0.01)
    assert "image" in rig.invalid("shop")


def test_a_file_that_keeps_changing_soundly_does_not_hold_up_the_others(rig: Rig, shop: Path):
    rig.write("other.yaml", a_document("other"))
    for number in range(30):
        rig.write("busy.yaml", a_document("busy", image=f"busy:{number}"))
        rig.look()
        rig.clock.move(0.01)
    assert rig.image("other") == "shop:1"


def test_a_change_is_taken_up_soon_after_the_last_write(rig: Rig, shop: Path):
    shop.write_text(GOOD)
    assert rig.look() <= 0.02
    assert rig.image("shop") == "shop:1"
    rig.clock.move(0.02)
    rig.look()
    assert rig.image("shop") == "shop:2"


def test_what_is_written_one_file_after_another_is_one_change(rig: Rig):
    rig.write("a.yaml", a_document("a", host="x.example"))
    rig.write("b.yaml", a_document("b", host="y.example"))
    rig.look()
    rig.write("a.yaml", a_document("a", host="y.example"))
    rig.look()
    rig.clock.move(0.01)
    rig.write("b.yaml", a_document("b", host="x.example"))
    rig.rest(0.1)
    assert (rig.invalid("a"), rig.invalid("b")) == ("", "")
    assert rig.desired.heirs("a", {Claim("x.example"): ""})[Claim("x.example")].app == "b"


def save_in_place(path: Path, text: str) -> None:
    with path.open("r+") as stream:
        stream.write(text)
        stream.truncate()


def save_truncated(path: Path, text: str, between: Callable[[], None]) -> None:
    with path.open("w") as stream:
        between()
        stream.write(text[:8])
        stream.flush()
        between()
        stream.write(text[8:])


def save_renamed(path: Path, text: str, between: Callable[[], None]) -> None:
    temporary = path.with_name(".shop.yaml.swp")
    temporary.write_text(text)
    between()
    temporary.replace(path)


def save_with_backup(path: Path, text: str, between: Callable[[], None]) -> None:
    backup = path.with_name(path.name + "~")
    path.rename(backup)
    between()
    with path.open("x") as stream:
        between()
        stream.write(text)
    between()
    backup.unlink()


def save_by_remove(path: Path, text: str, between: Callable[[], None]) -> None:
    path.unlink()
    between()
    path.write_text(text)


WAYS = {
    "in place": lambda path, text, between: save_in_place(path, text),
    "truncated": save_truncated,
    "renamed": save_renamed,
    "with a backup": save_with_backup,
    "removed": save_by_remove,
    "copied": lambda path, text, between: subprocess.run(["cp", "/dev/stdin", path], input=text, text=True, check=True),
    "sed": lambda path, text, between: subprocess.run(["sed", "-i", f"s/shop:.*/{text.split()[3]}/", path], check=True),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_saving_is_one_quiet_change(rig: Rig, shop: Path, way: str):
    seen = set()

    def between() -> None:
        for _ in range(3):
            rig.look()
            rig.clock.move(0.02)
            seen.add(shown(rig))

    for number in range(2, 6):
        WAYS[way](shop, a_document(image=f"shop:{number}"), between)
        rig.rest(0.1)
        seen.add(shown(rig))
        assert shown(rig) == (f"shop:{number}", "", False)
    assert {problem for _, problem, _ in seen} == {""}
    assert not any(lost for _, _, lost in seen)
    assert rig.memory.rings == ["shop"] * 5


def test_a_change_that_leaves_size_and_times_as_they_were_is_found(rig: Rig, shop: Path):
    rig.rest(1)
    status = shop.stat()
    shop.write_text(a_document(image="shop:9"))
    os.utime(shop, ns=(status.st_atime_ns, status.st_mtime_ns))
    rig.rest(1)
    assert rig.image("shop") == "shop:9"
