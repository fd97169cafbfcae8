"""The test suite itself: whatever a test does to its process, the run ends, fails and says which test it was."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HUNG_S = 90  # a guard against the hang that is looked for, far above what any run here takes

DONE = "def test_one(): pass\ndef test_two(): pass\ndef test_three(): pass\n"
# The last file of a worker that has done others before: what xdist never came back from.
HARMS = {
    "hangs": "import time\ndef test_harm(): time.sleep(3600)\n",
    "hangs in a loop": "import asyncio, uvloop\ndef test_harm(): uvloop.run(asyncio.sleep(3600))\n",
    "hangs in its fixture": (
        "import pytest, threading\n@pytest.fixture\ndef slow(): threading.Event().wait()\ndef test_harm(slow): pass\n"
    ),
    "dies": "import os\ndef test_harm(): os._exit(1)\n",
    "is killed": "import os, signal\ndef test_harm(): os.kill(os.getpid(), signal.SIGKILL)\n",
    "dies and leaves a process": (
        "import os, subprocess, sys\n"
        "def test_harm():\n"
        "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'], stdout=2)\n"
        "    os._exit(1)\n"
    ),
    "hears no signal": (
        "import signal, time\n"
        "def test_harm():\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\n"
        "    time.sleep(3600)\n"
    ),
}


def run_suite(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run the tests in *folder* as ours are configured; return the exit code and what was printed."""
    less = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]  # Hypothesis costs each process a second
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", folder, *less]
    # A file and not a pipe: a process that a test left behind must not be what this waits for.
    with (folder / "printed").open("w+b") as printed:
        ended = subprocess.run(
            [*command, *arguments, folder],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            env={**os.environ, **(environment or {})},
            cwd=ROOT,
            timeout=HUNG_S,
            check=False,
        )
        printed.seek(0)
        return ended.returncode, printed.read().decode()


@pytest.mark.parametrize(("harm", "dist"), [*((harm, "loadfile") for harm in HARMS), ("dies", "worksteal")])
def test_a_test_that_harms_its_worker_ends_the_run_and_is_named(harm, dist, tmp_path):
    for number in range(4):
        (tmp_path / f"test_{number}.py").write_text(DONE)
    (tmp_path / "test_z.py").write_text(HARMS[harm] + "def test_after(): pass\n")
    limits = ("-o", "timeout=1", "-o", "faulthandler_timeout=3")
    code, printed = run_suite(tmp_path, "-n", "2", "--dist", dist, *limits)
    assert code == 1, printed
    assert re.search(r"^FAILED .*test_z\.py::test_harm|^ERROR .*test_z\.py::test_harm", printed, re.MULTILINE), printed


def test_a_test_that_hangs_fails_alone(tmp_path):
    (tmp_path / "test_z.py").write_text(HARMS["hangs"] + "def test_after(): pass\n")
    code, printed = run_suite(tmp_path, "-n", "1", "-o", "timeout=2")
    assert (code, "1 failed, 1 passed" in printed) == (1, True), printed
    assert "Timeout (>2.0s)" in printed


@pytest.mark.parametrize("side", [(), ("-n", "2")])
def test_a_run_that_selects_nothing_fails(side, tmp_path):
    (tmp_path / "test_a.py").write_text(DONE)
    code, printed = run_suite(tmp_path, *side, "-m", "core")
    assert code == 5, printed


def test_without_the_engine_that_is_needed_nothing_is_green(tmp_path):
    (tmp_path / "test_a.py").write_text(DONE)
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    code, printed = run_suite(tmp_path, "-p", "tests.conftest", "--need-engine", environment=nowhere)
    assert (code, "no Docker engine answers" in printed) == (4, True), printed
    code, printed = run_suite(tmp_path, "-p", "tests.conftest", environment=nowhere)
    assert code == 0, printed
