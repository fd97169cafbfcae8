"""`oton … | head -1`: when nobody reads on, every verb ends without a word and with the code of a tool in a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from controller.cli.main import main
from tests.api.stage import DEADLINE_S, Session, Stage
from tests.cli.conftest import ROOT
from tests.parts.wait import wait_for

GONE = 141

VERBS = [
    (),
    ("--help",),
    ("status", "--help"),
    ("status",),
    ("status", "alpha"),
    ("status", "-w"),
    ("history", "alpha"),
    ("logs", "alpha"),
    ("logs", "alpha", "-f"),
    ("events",),
    ("events", "-f"),
    ("routes",),
    ("routes", "explain", "http://alpha.example.com/"),
    ("top",),
    ("schema",),
    ("doctor",),
    ("version",),
    ("token", "list"),
    ("secret", "list", "alpha"),
    ("init", "new"),
    ("validate", "spec.yaml"),
    ("diff", "spec.yaml"),
]
FORMS = [
    (verb, *words)
    for verb, *words in VERBS[3:]
    if verb in ("status", "history", "logs", "events", "routes", "doctor", "version", "validate", "diff")
    and "explain" not in words
]


@pytest.fixture(scope="module")
def _alpha(stage: Stage) -> None:
    stage.bring_up("alpha", routes=[{"host": "alpha.example.com"}])
    [replica] = stage.worlds["alpha"].replicas
    stage.engine.containers["alpha"] = (replica,)
    stage.engine.written[replica.id] = [(1.0, "one"), (2.0, "two")]
    stage.store.secrets.set("alpha", "KEY", "value")
    stage.store.tokens.create("ci", scope="read")


@pytest.fixture
def closed(tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Run a verb in this process with a standard output (or error) that nobody reads."""
    monkeypatch.setenv("OTON_SOCKET", str(stage.socket))
    (tmp_path / "spec.yaml").write_text("name: alpha\nimage: shop:9\n")
    opened: list[TextIO] = []

    def run(*words: str, stream: str = "stdout") -> int:
        reader, writer = os.pipe()
        os.close(reader)
        opened.append(os.fdopen(writer, "w"))
        with monkeypatch.context() as patch:
            patch.setattr(sys, stream, opened[-1])
            # What watches for the reader ends the process, which is the test's here.
            for module in ("logs", "status", "top"):
                patch.setattr(f"controller.cli.{module}.end_with_reader", lambda: None)
            return main(list(words))

    yield run
    for one in opened:
        one.close()


@pytest.mark.usefixtures("_alpha")
@pytest.mark.parametrize(
    "words", [*VERBS, *((*verb, "-o", form) for verb in FORMS for form in ("json", "name", "yaml"))], ids=" ".join
)
def test_a_verb_that_nobody_hears_ends_without_a_word(closed, capsys, words: tuple[str, ...]) -> None:
    assert closed(*words) == GONE
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words", [("status", "nope"), ("stauts",), ("validate", "nope.yaml"), ("history",)], ids=" ".join
)
def test_a_refusal_that_nobody_hears_ends_without_a_word(closed, capsys, words: tuple[str, ...]) -> None:
    assert closed(*words, stream="stderr") == GONE
    assert capsys.readouterr().out == ""


def start(stage: Stage, path: Path, *words: str, **more) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "controller", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OTON_SOCKET": str(stage.socket), "PYTHONPATH": str(ROOT)},
        cwd=path,
        **more,
    )


@pytest.mark.usefixtures("_alpha")
@pytest.mark.parametrize("words", [("logs", "alpha", "-f"), ("status", "-w"), ("events", "-f"), ("top",)], ids=" ".join)
def test_a_verb_that_follows_ends_with_its_reader_though_there_is_nothing_to_print(stage, tmp_path, words) -> None:
    with start(stage, tmp_path, *words) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(DEADLINE_S) == GONE
        assert process.stderr.read() in (b"", b"no requests yet\n")


@pytest.mark.usefixtures("_alpha")
def test_exec_ends_with_its_reader_and_so_does_the_command(stage: Stage, tmp_path: Path) -> None:
    stage.engine.start_session = lambda command: Session(lambda data: data * 100_000)
    before = len(stage.engine.sessions)
    with start(stage, tmp_path, "exec", "alpha", "--", "yes") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.close()
        process.stdin.write(b"y")
        process.stdin.flush()
        assert process.wait(DEADLINE_S) == GONE
    wait_for(lambda: all(one.closed.is_set() for one in stage.engine.sessions[before:]), DEADLINE_S, "the command ends")


@pytest.mark.usefixtures("_alpha")
@pytest.mark.parametrize("closing", ["1>&-", "2>&-", "1>&- 2>&-", "0<&-"])
def test_closed_streams_change_nothing(stage: Stage, tmp_path: Path, closing: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m controller status {closing}', sys.executable],
        capture_output=True,
        env={**os.environ, "OTON_SOCKET": str(stage.socket), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"alpha" in done.stdout or "1>" in closing


@pytest.mark.usefixtures("_alpha")
def test_a_full_disk_behind_the_output_is_told(stage: Stage, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "controller", "status"],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "OTON_SOCKET": str(stage.socket), "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            timeout=DEADLINE_S,
            check=False,
        )
    assert (done.returncode, done.stderr) == (2, b"oton: the output cannot be written: No space left on device\n")
