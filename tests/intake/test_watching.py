"""Changes are noticed soon, whatever becomes of the directory and of the kernel's notice."""

import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.intake.desired import Desired
from tests.intake.rig import Memory, a_document, swap_link

SOON_S = 12.0
"""Far above what it takes, below the look that comes every 15 s in any case."""


class Running:
    """A directory that is watched by real threads in real time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.memory = Memory()
        self.desired = Desired(root, SystemClock(), self.memory.ports())
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.desired.run, args=(self.stop,))
        self.thread.start()
        self.until(lambda: not self.desired.is_polling())

    def until(self, so: Callable[[], bool], within_s: float = SOON_S) -> float:
        """Return how long it took until *so*."""
        start = time.monotonic()
        while not so():
            assert time.monotonic() - start < within_s, "not in time"
            time.sleep(0.002)
        return time.monotonic() - start

    def until_image(self, image: str | None, app: str = "shop") -> float:
        return self.until(lambda: self.image(app) == image)

    def image(self, app: str = "shop") -> str | None:
        wanted = self.desired.standing(app).wanted
        return wanted.spec.image if wanted else None

    def write(self, name: str, image: str, app: str = "shop") -> None:
        (self.root / name).write_text(a_document(app, image))

    def settle_watch(self) -> None:
        """Wait until the kernel's notice works again and the looks after a bell are over."""
        self.until(lambda: not self.desired.is_polling())

    def end(self) -> float:
        start = time.monotonic()
        self.stop.set()
        self.thread.join(SOON_S)
        assert not self.thread.is_alive()
        return time.monotonic() - start


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    root = tmp_path / "desired"
    root.mkdir()
    running = Running(root)
    yield running
    running.end()


def test_a_copied_file_is_taken_up_at_once(running: Running):
    taken = []
    for number in range(5):
        running.write("../app.yaml", f"shop:{number}")
        subprocess.run(["cp", running.root / "../app.yaml", running.root], check=True)
        taken.append(running.until_image(f"shop:{number}"))
    print("taken up after", [f"{seconds * 1000:.0f} ms" for seconds in taken])
    assert min(taken) < 0.2


def test_it_stops_at_once(running: Running):
    assert running.end() < 1.0
    assert not [thread for thread in threading.enumerate() if thread.name == "intake-bell"]


def test_a_first_start_makes_the_directory(tmp_path: Path):
    running = Running(tmp_path / "a" / "desired")
    running.write("shop.yaml", "shop:1")
    running.until_image("shop:1")
    running.end()


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_directory_made_anew_is_watched_again(running: Running, how: str):
    running.write("shop.yaml", "shop:1")
    running.until_image("shop:1")
    for number in range(2, 5):
        if how == "removed":
            shutil.rmtree(running.root)
        else:
            running.root.rename(running.root.with_name(f"old-{number}"))
        running.root.mkdir()
        running.write("shop.yaml", f"shop:{number}")
        running.until_image(f"shop:{number}")
        running.settle_watch()
        running.write("shop.yaml", f"shop:{number}-later")
        running.until_image(f"shop:{number}-later")
    assert not running.desired.standing("shop").gone


def test_a_directory_away_for_a_while_is_found_again(running: Running):
    running.write("shop.yaml", "shop:1")
    running.until_image("shop:1")
    aside = running.root.rename(running.root.with_name("aside"))
    running.until(lambda: running.desired.standing("shop").held != "")
    aside.rename(running.root)
    running.until(lambda: running.desired.standing("shop").held == "")
    running.settle_watch()
    running.write("shop.yaml", "shop:2")
    running.until_image("shop:2")


def test_a_directory_swapped_by_link_is_watched_where_it_leads(tmp_path: Path):
    root = tmp_path / "desired"
    for version in "12":
        (tmp_path / version).mkdir()
        (tmp_path / version / "shop.yaml").write_text(a_document(image=f"shop:{version}"))
    root.symlink_to(tmp_path / "1")
    running = Running(root)
    running.until_image("shop:1")
    swap_link(root, tmp_path / "2")
    running.until_image("shop:2")
    running.settle_watch()
    (tmp_path / "2" / "shop.yaml").write_text(a_document(image="shop:3"))
    running.until_image("shop:3")
    running.end()


def test_a_directory_in_turmoil_ends_neither_the_looks_nor_what_runs(running: Running):
    running.write("shop.yaml", "shop:1")
    running.until_image("shop:1")
    gone = False
    for number in range(150):
        shutil.rmtree(running.root, ignore_errors=True)
        (running.root / "a" / "b").mkdir(parents=True)
        (running.root / "a" / "link").symlink_to("../a")
        running.write("a/b/shop.yaml", f"shop:{number}")
        running.root.rename(running.root.with_name(f"turmoil-{number}"))
        running.root.mkdir()
        running.write("x.yaml", f"shop:{number}")
        gone = gone or running.desired.standing("shop").gone
    running.until_image("shop:149")
    assert running.thread.is_alive()
    assert not gone


def test_a_folder_and_its_file_made_at_once_are_found(running: Running):
    for number in range(10):
        folder = running.root / f"a{number}" / "b" / "c"
        folder.mkdir(parents=True)
        (folder / "shop.yaml").write_text(a_document(f"app-{number}"))
    running.until(lambda: len(running.desired.standings()) == 10)
    (running.root / "a7" / "b" / "c" / "shop.yaml").write_text(a_document("app-7", "x:2"))
    running.until_image("x:2", "app-7")


def test_a_links_target_swapped_inside_is_noticed(running: Running):
    for version in "12":
        (running.root / f"..{version}").mkdir()
        (running.root / f"..{version}" / "shop.yaml").write_text(a_document(image=f"shop:{version}"))
    (running.root / "..data").symlink_to("..1")
    (running.root / "shop.yaml").symlink_to("..data/shop.yaml")
    running.until_image("shop:1")
    swap_link(running.root / "..data", Path("..2"))
    running.until_image("shop:2")


def test_a_name_that_is_not_utf8_does_not_end_the_watch(running: Running):
    for number in range(3):
        odd = os.fsencode(running.root) + b"/caf\xe9%d.txt" % number
        os.close(os.open(odd, os.O_CREAT | os.O_WRONLY))
        running.settle_watch()
        running.write("shop.yaml", f"shop:{number}")
        running.until_image(f"shop:{number}")


def test_an_idle_directory_costs_next_to_nothing(running: Running):
    for number in range(50):
        running.write(f"app-{number}.yaml", "x:1", f"app-{number}")
    running.until(lambda: len(running.desired.standings()) == 50)
    running.settle_watch()
    before = time.process_time()
    time.sleep(2)
    spent = time.process_time() - before
    print(f"idle: {spent / 2 * 100:.2f} % of a core")
    assert spent < 0.2


def git(root: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-C", root, "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments],
        check=True,
        capture_output=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"},
    )


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_whole_git_checkout_moves_everything_and_takes_nothing_down(running: Running):
    root = running.root
    names = [f"app-{number}" for number in range(12)]
    git(root, "init", "-q", "-b", "one")
    for folder, branch in (("flat", "one"), ("deep/er", "two")):
        if branch == "two":
            git(root, "checkout", "-q", "-b", branch)
            git(root, "rm", "-q", "-r", "flat")
        (root / folder).mkdir(parents=True)
        for name in names:
            running.write(f"{folder}/{name}.yaml", f"{branch}:1", name)
        git(root, "add", ".")
        git(root, "commit", "-q", "-m", branch)
    running.until(lambda: all(running.image(name) == "two:1" for name in names))
    troubles: set[str] = set()
    for branch in ("one", "two", "one", "two", "one"):
        git(root, "checkout", "-q", branch)
        running.until(lambda branch=branch: all(running.image(name) == f"{branch}:1" for name in names))
        for name in names:
            standing = running.desired.standing(name)
            troubles |= {standing.held, standing.invalid, "gone" if standing.gone else ""}
    assert troubles == {""}
    assert not running.desired.problems()


EXHAUSTED = """
    import sys, threading, time
    from pathlib import Path
    from controller.clock import SystemClock
    from controller.intake.desired import Desired
    from tests.intake.rig import Memory, a_document

    Path("/proc/sys/user/max_inotify_instances").write_text("0")
    root = Path(sys.argv[1])
    root.mkdir()
    desired, stop = Desired(root, SystemClock(), Memory().ports()), threading.Event()
    thread = threading.Thread(target=desired.run, args=(stop,))
    thread.start()
    while desired.looked_at() == 0:
        time.sleep(0.01)
    (root / "shop.yaml").write_text(a_document())
    start = time.monotonic()
    while not desired.standings() and time.monotonic() - start < 10:
        time.sleep(0.01)
    print("polling" if desired.is_polling() else "watching", f"{time.monotonic() - start:.2f}")
    stop.set()
    thread.join()
"""


def test_without_inotify_it_polls_every_second_and_says_so(tmp_path: Path):
    script = [
        "unshare",
        "--user",
        "--map-root-user",
        sys.executable,
        "-c",
        textwrap.dedent(EXHAUSTED),
        tmp_path / "desired",
    ]
    done = subprocess.run(
        script,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    if "max_inotify_instances" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no user namespace with limits of its own here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    words, *_ = [line for line in done.stdout.splitlines() if line.startswith(("polling", "watching"))]
    assert words.split()[0] == "polling"
    assert float(words.split()[1]) < 3.0
    assert "polling it instead" in done.stdout + done.stderr
