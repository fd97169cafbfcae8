"""The way in: what a person on a bare machine runs first, and what it says when something is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.txt", "requirements-dev.txt")


def run_engine(**environment: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
    return subprocess.run(
        [sys.executable, TOP / "scripts" / "engine", "start"],
        env={**bare, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_engine_that_was_named_and_does_not_answer_is_one_line() -> None:
    done = run_engine(DOCKER_HOST="unix:///nowhere/docker.sock")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "engine: DOCKER_HOST=unix:///nowhere/docker.sock does not answer: start that engine, or unset DOCKER_HOST\n"
    )


@pytest.mark.engine
def test_an_engine_that_answers_is_used_and_none_is_started() -> None:
    done = run_engine()
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\w+://\S+\n", done.stdout)
    assert done.stderr == ""


def test_make_alone_lists_every_target() -> None:
    shown = subprocess.run(["make"], cwd=TOP, capture_output=True, text=True, timeout=20, check=True).stdout
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (TOP / "Makefile").read_text(), re.MULTILINE)
    assert [target for target in phony.split() if not re.search(rf"make {target} +\S", shown)] == []


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_no_address(name: str) -> None:
    text = (TOP / name).read_text()
    assert "://" not in text
    assert not re.search(r"^--?(index|extra|find|trusted)", text, re.MULTILINE)
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert blocks
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_both_locks_agree() -> None:
    run, dev = (set(re.findall(r"^[^#\s]\S+(?: ; [^\\]*)?", (TOP / name).read_text(), re.MULTILINE)) for name in LOCKS)
    assert run <= dev


def test_everything_that_is_wanted_is_pinned() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower().replace("_", "-") for line in project["dependencies"]}
    pinned = set(re.findall(r"^([a-z0-9.-]+)==", (TOP / "requirements.txt").read_text(), re.MULTILINE))
    assert wanted <= pinned


def run_tools(path: str, *pairs: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", TOP / "scripts" / "tools", *pairs],
        env={"PATH": path},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_tools_that_are_there_are_not_installed_again() -> None:
    done = run_tools("/usr/bin:/bin", "sh=dash", "/bin/sh=dash")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_where_nothing_can_be_installed_the_missing_tools_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "id").symlink_to("/usr/bin/id")
    done = run_tools(str(tmp_path), "no-such-tool=a-package", "/bin/sh=dash", "no-other=b")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        "tools: tests that need no-such-tool no-other will be skipped"
        " (Debian, Ubuntu: sudo apt-get install a-package b)\n"
    )
