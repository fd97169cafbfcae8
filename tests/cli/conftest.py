from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controller.cli.main import main
from tests.api.stage import Stage

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Oton = Callable[..., Ran]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stage")).open() as opened:
        yield opened


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine decides where we talk to."""
    for name in ("OTON_HOST", "OTON_TOKEN", "OTON_SOCKET", "XDG_RUNTIME_DIR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def oton(stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Oton:
    """Run a verb in this process, against the stage."""
    monkeypatch.setenv("OTON_SOCKET", str(stage.socket))

    def run(*words: str) -> Ran:
        capsys.readouterr()
        code = main(list(words))
        shown = capsys.readouterr()
        return Ran(code, shown.out, shown.err)

    return run


@pytest.fixture
def process(stage: Stage, tmp_path: Path) -> Oton:
    """Run a verb as a process of its own."""
    env = {**os.environ, "OTON_SOCKET": str(stage.socket), "PYTHONPATH": str(ROOT)}

    def run(*words: str, stdin: bytes = b"", **more: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "controller", *words],
            input=stdin,
            check=False,
            capture_output=True,
            timeout=60,
            env={**env, **more},
            cwd=tmp_path,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run
