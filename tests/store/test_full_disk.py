from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.errors import Refused, Retry
from tests.builders import at
from tests.store.kit import MovedClock, a_decision, a_memory, a_release, an_order, running

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(b"x" * 4096)


def test_a_file_that_cannot_grow_freezes_changes_and_mends_itself(path: Path):
    command = [sys.executable, "-W", "error", "-m", "tests.store.full_disk", str(path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split("\n") == ["Retry Retry", "unchanged", "answers", "written", "[1, 2]", ""]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_freezes_changes_and_recovers_unaided(small_disk: Path):
    with running(small_disk / "database.db", MovedClock()) as store:
        store.intend("shop", a_decision(), at())
        open_order = store.order(an_order())
        token, _ = store.tokens.create("ci", scope="admin")
        before = store.load("shop")
        filler = small_disk / "filler"
        fill(filler)
        for second in range(3):
            big = a_decision(memory=a_memory(2), releases=(a_release(2, message="x" * 100_000),))
            with pytest.raises(Retry, match="nothing was recorded; retrying"):
                store.intend("shop", big, at(second))
            with pytest.raises(Refused, match=r"cannot copy the database to .*copy\.db"):
                store.backup(small_disk / "copy.db")
        assert store.load("shop") == before
        assert store.answers("shop")[0].order == open_order
        assert store.tokens.verify(token) is not None
        filler.unlink()
        store.intend("shop", big, at(9))
        assert sorted(store.load("shop")[1]) == [1, 2]
        store.backup(small_disk / "copy.db")
