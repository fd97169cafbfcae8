"""F23, F24: whatever a watched directory may hold or become, what runs goes on with the last good word."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.conftest import open_house
from tests.parts.journal import Journal
from tests.parts.service import Service, a_spec
from tests.parts.stage import Stage
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

BOMB = "".join(f"x-{level}: &{level} [{', '.join([f'*{chr(ord(level) - 1)}'] * 9)}]\n" for level in "bcdefghi")
BAD: dict[str, tuple[bytes | None, str]] = {
    "half-written": (None, "shop.yaml:"),
    "empty": (b"", "shop.yaml"),
    "only-comments": (b"# nothing yet\n---\n", "shop.yaml"),
    "unknown-field": (b"name: shop\nimage: a:1\nstrategi: rolling\n", "shop.yaml:3: strategi"),
    "doubled-key": (b"name: shop\nimage: a:1\nimage: a:2\n", "shop.yaml:3"),
    "not-utf-8": (b"name: shop\nimage: \xff\xfe\n", "UTF-8"),
    "ten-megabytes": (b"name: shop\nimage: a:1\nx-more: " + b"a" * 10_000_000 + b"\n", "allowed: at most 1048576"),
    "alias-bomb": (f"name: shop\nimage: a:1\nx-a: &a [1]\n{BOMB}".encode(), "alias"),
    "deep": (b"name: shop\nimage: a:1\nx-deep: " + b"[" * 100_000 + b"\n", "nest"),
}


class Beacon:
    """An app without containers: once its newest change is live, the directory was looked at after it was made."""

    def __init__(self, house: Service) -> None:
        self._stage = Stage(house, "beacon")
        self._numbers = itertools.count(1)
        self.flash()

    def flash(self) -> None:
        """Change the beacon's file and wait until that has become a release."""
        number = f"turn {next(self._numbers)}"
        text = a_spec("beacon", replicas=0, environment={"TURN": number}, labels={"turn": number})
        self._stage.service.write_spec(text, "beacon.yaml")
        before = len(self._stage.releases()) if self._stage.row() else 0
        self._stage.wait(lambda _: len(self._stage.releases()) > before, 30)


@pytest.fixture(scope="module")
def beacon(house: Service) -> Beacon:
    return Beacon(house)


@pytest.fixture(scope="module")
def shop(house: Service, beacon: Beacon) -> Iterator[Stage]:
    shop = Stage(house, "shop", replicas=2)
    shop.write("v1")
    shop.wait_live("v1")
    yield shop
    shop.close()


@pytest.fixture
def undisturbed(house: Service, shop: Stage) -> Iterator[Callable[[], None]]:
    """At its end the shop runs in the very containers as before, and nothing was written to the engine meanwhile."""
    running, releases = shop.running(), len(shop.releases())

    def check() -> None:
        assert shop.version() == "v1"
        assert shop.running() == running
        assert not [e for e in journal.writes() if e.app == shop.name]
        assert len(shop.releases()) == releases

    with Journal(house) as journal:
        yield check
        shop.write("v1")
        shop.wait(lambda row: row["sync"] == "synced")
        check()


@pytest.mark.parametrize("word", BAD)
def test_a_bad_file_is_told_with_its_place_and_the_last_good_spec_stays(
    house: Service, shop: Stage, beacon: Beacon, undisturbed: Callable[[], None], word: str
) -> None:
    content, told = BAD[word]
    if content is None:
        content = shop.spec("v2").encode()[:200]
    place = house.desired / "shop.yaml"
    place.write_bytes(content)
    row = shop.wait(lambda row: row["sync"] == "invalid")
    assert told in row["message"], row["message"]
    assert len(row["message"]) < 1000
    assert row["health"] == "healthy"
    beacon.flash()
    undisturbed()


def test_a_host_that_another_app_has_is_not_given_away(
    house: Service, shop: Stage, beacon: Beacon, undisturbed: Callable[[], None], stage: Callable[..., Stage]
) -> None:
    thief = stage("thief", routes=[{"host": shop.host}])
    thief.write("v2")
    row = thief.wait(lambda row: row["sync"] == "invalid")
    assert "shop" in row["message"]
    beacon.flash()
    assert not thief.containers()
    (house.desired / f"{thief.name}.yaml").unlink()
    beacon.flash()
    undisturbed()


def vim(place: Path, data: bytes) -> None:
    backup = place.with_name(f"{place.name}~")
    place.rename(backup)
    place.write_bytes(data)
    backup.unlink()


def in_place(place: Path, data: bytes) -> None:
    with place.open("r+b") as file:
        file.truncate()
        for start in range(0, len(data), 100):
            file.write(data[start : start + 100])
            file.flush()


def by_rename(place: Path, data: bytes) -> None:
    part = place.with_name("4913.tmp")
    part.write_bytes(data)
    part.replace(place)


def away_and_back(place: Path, data: bytes) -> None:
    place.unlink()
    place.write_bytes(data)


SAVES: Sequence[Callable[[Path, bytes], None]] = (vim, in_place, by_rename, away_and_back)


@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
def test_saving_the_same_words_in_any_way_does_nothing(
    house: Service, shop: Stage, beacon: Beacon, undisturbed: Callable[[], None], save: Callable[[Path, bytes], None]
) -> None:
    place = house.desired / "shop.yaml"
    data = place.read_bytes()
    for turn in range(3):
        save(place, data + b"# saved again\n" * turn)
    beacon.flash()
    undisturbed()


def test_deleted_and_added_again_within_two_seconds_nothing_is_torn_down(
    house: Service, shop: Stage, beacon: Beacon, undisturbed: Callable[[], None]
) -> None:
    place = house.desired / "shop.yaml"
    data = place.read_bytes()
    place.unlink()
    beacon.flash()  # it was seen that the file is gone
    moved = house.desired / "team" / "web" / "shop.yml"
    moved.parent.mkdir(parents=True)
    moved.write_bytes(data)
    shop.wait(lambda row: row["file"].endswith("team/web/shop.yml"))
    undisturbed()
    shutil.rmtree(house.desired / "team")
    place.write_bytes(data)
    shop.wait(lambda row: row["file"].endswith("desired/shop.yaml"))


def test_a_folder_and_the_file_in_it_made_at_once_are_found(house: Service, stage: Callable[..., Stage]) -> None:
    nested = stage("nested", replicas=1)
    nested.write("v1", file="a/b/c/nested.yaml")
    nested.wait_live("v1")


def test_a_whole_checkout_moves_what_changed_and_leaves_alone_what_did_not(
    house: Service, shop: Stage, beacon: Beacon, stage: Callable[..., Stage]
) -> None:
    other = stage("other", replicas=1)
    other.write("v1", file="apps/other.yaml")
    other.wait_live("v1")
    git(house, "init", "-q", "-b", "main")
    git(house, "add", ".")
    git(house, "commit", "-q", "-m", "as it is")
    git(house, "checkout", "-q", "-b", "next")
    git(house, "mv", "shop.yaml", "apps/shop.yaml")
    other.write("v2", file="apps/other.yaml")
    other.wait_live("v2")
    git(house, "commit", "-q", "-a", "-m", "the next")
    running = shop.running()
    with Journal(house) as journal:
        git(house, "checkout", "-q", "main")
        other.wait_live("v1")
        git(house, "checkout", "-q", "next")
        other.wait_live("v2")
        git(house, "checkout", "-q", "main")
        other.wait_live("v1")
    assert shop.running() == running
    assert not [e for e in journal.writes() if e.app == shop.name]
    assert shop.version() == "v1"
    shutil.rmtree(house.desired / ".git")


def git(house: Service, *words: str) -> None:
    person = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    subprocess.run(["git", *person, *words], cwd=house.desired, env=environment, check=True, capture_output=True)


def test_a_directory_that_goes_is_replaced_or_comes_back_tears_nothing_down(
    tmp_path: Path,
) -> None:
    root = tmp_path / "roots"
    link = root / "current"
    root.mkdir()
    link.symlink_to(root / "desired")
    with open_house(root, {"OTON_DESIRED": str(link)}) as house:
        shop, other = Stage(house, "shop", replicas=1), Stage(house, "other", replicas=1)
        for one in (shop, other):
            one.write("v1")
        for one in (shop, other):
            one.wait_live("v1")
        running = shop.running() | other.running()
        copy, away = root / "copy", root / "away"
        shutil.copytree(house.desired, copy)
        with Journal(house) as journal:
            swap(link, copy)  # the same files elsewhere: as a deployment by symlink does it
            wait_for(lambda: all(str(one.row().get("file", "")) for one in (shop, other)), 10, "both are seen")
            house.desired.rename(away)
            swap(link, house.desired)  # it leads to nothing
            for one in (shop, other):
                one.wait(lambda row: row["sync"] == "held")
            house.desired.mkdir()  # and now to an empty one
            assert shop.version() == other.version() == "v1"
            wait_for(lambda: all(one.row()["sync"] == "held" for one in (shop, other)), 10, "both are held")
            for file in away.iterdir():
                shutil.copy(file, house.desired / file.name)
            for one in (shop, other):
                one.wait(lambda row: row["sync"] == "synced")
        assert not journal.writes()
        assert shop.running() | other.running() == running
        assert len(shop.releases()) == len(other.releases()) == 1


def swap(link: Path, target: Path) -> None:
    part = link.with_name(f".{link.name}.new")
    part.symlink_to(target)
    part.replace(link)
