from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.kit import MovedClock, running

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("times", [30, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_a_store_killed_during_commits_keeps_every_promise(path: Path, times: int):
    seed = random.randrange(2**32)
    print("seed", seed)
    command = [sys.executable, "-W", "error", "-m", "tests.store.crash_loop", str(path), str(times), str(seed)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90 + times, check=False)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["wrong"] == []
    assert report["commits"] >= times
    with running(path, MovedClock()) as store:
        memory, releases, orders = store.load("shop")
        assert memory.last_release == max(releases)
        assert len(orders) <= times
