"""What a person at a terminal sees: a question before what cannot be undone, live progress, a way out, a shell."""

from __future__ import annotations

import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.api.stage import DEADLINE_S, Session, Stage, removing, rolling_out, staying
from tests.cli.conftest import ROOT


class Terminal:
    """A command with a terminal for all its streams."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process, self.master, self.shown = process, master, ""

    def expect(self, text: str) -> None:
        """Wait until the screen has shown *text*."""
        until = time.monotonic() + DEADLINE_S
        while text not in self.shown:
            assert time.monotonic() < until, self.shown
            self.read()

    def read(self) -> None:
        if select.select([self.master], [], [], 0.5)[0]:
            with suppress(OSError):  # the other end has closed
                self.shown += os.read(self.master, 65536).decode("utf-8", "replace")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        """Wait for the command's end and return its exit code."""
        until = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < until, self.shown
            self.read()
        self.read()
        return self.process.returncode


@contextmanager
def terminal(stage: Stage, path: Path, *words: str, **env: str) -> Iterator[Terminal]:
    # A shell's background job ignores SIGINT, and so would every child of a test run that is one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "controller", *words],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd=path,
        env={"PATH": "/usr/bin:/bin", "TERM": "xterm", "PYTHONPATH": str(ROOT), "OTON_SOCKET": str(stage.socket), **env},
    )  # fmt: skip
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(DEADLINE_S)
        os.close(master)


def test_delete_asks_for_the_name(stage: Stage, tmp_path: Path) -> None:
    stage.bring_up("precious")
    stage.plays = {"delete": removing}
    with terminal(stage, tmp_path, "delete", "precious") as asked:
        asked.expect("type its name to continue: ")
        asked.type("precios\n")
        assert asked.end() == 2
        assert "nothing was changed" in asked.shown
    assert stage.model.app("precious") is not None
    with terminal(stage, tmp_path, "delete", "precious") as asked:
        asked.expect("type its name to continue: ")
        asked.type("precious\n")
        assert asked.end() == 0
    assert stage.model.app("precious") is None


def test_ctrl_c_leaves_the_rollout_running_and_says_how_to_follow(stage: Stage, tmp_path: Path) -> None:
    stage.bring_up("slow")
    stage.plays = {"restart": staying(waits_for="1 of 2 replicas ready")}
    with terminal(stage, tmp_path, "restart", "slow") as watched:
        watched.expect("1 of 2 replicas ready")
        os.kill(watched.process.pid, signal.SIGINT)
        assert watched.end() == 130
        assert "oton status slow -w" in watched.shown
    view = stage.model.app("slow")
    assert view is not None
    assert view["target"] == 2
    assert "Traceback" not in watched.shown


def test_progress_is_live_on_a_terminal_and_has_colours_unless_told_not_to(stage: Stage, tmp_path: Path) -> None:
    stage.bring_up("lively")
    stage.plays = {"restart": rolling_out()}
    with terminal(stage, tmp_path, "restart", "lively") as watched:
        assert watched.end() == 0
        assert "release 2 is live" in watched.shown
    with terminal(stage, tmp_path, "status") as table:
        assert table.end() == 0
        assert "\x1b[32mhealthy" in table.shown
    with terminal(stage, tmp_path, "status", NO_COLOR="1") as table:
        assert table.end() == 0
        assert "\x1b" not in table.shown


def test_exec_hands_the_terminal_over_and_gives_it_back(stage: Stage, tmp_path: Path) -> None:
    stage.bring_up("boxed")
    stage.engine.start_session = lambda command: Session(lambda data: b"got " + data + b"\r\n", code=4)
    with terminal(stage, tmp_path, "exec", "boxed", "sh") as inside:
        inside.expect("to stderr")
        inside.type("\x03")  # not ours to act on: the command gets it
        inside.expect("got \x03")
        session = stage.engine.sessions[-1]
        assert session.sizes, "the command is told how large the terminal is"
        session.end_input()
        assert inside.end() == 4


@pytest.mark.parametrize("verb", ["status", "history", "routes"])
def test_nothing_an_app_says_can_drive_the_terminal(stage: Stage, tmp_path: Path, verb: str) -> None:
    stage.bring_up("rude", environment={"X": "\x1b]0;owned\x07"})
    memory, releases, _ = stage.store.load("rude")
    assert memory.live is not None
    from dataclasses import replace

    bad = replace(releases[memory.live], outcome="failed", message="\x1b]0;owned\x07")
    stage.decide("rude", releases=[bad])
    words = [verb] if verb == "routes" else [verb, "rude"]
    with terminal(stage, tmp_path, *words, NO_COLOR="1") as shown:
        assert shown.end() == 0
        assert "\x1b]0;" not in shown.shown


MARKS = "\x1b\x07\x7f\x85\x9b\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2028\u2029\u2066\u2067\u2068\u2069"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_mark_that_drives_a_terminal_or_turns_its_text_reaches_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from controller.cli import show

    hostile = f"a{MARKS}b"
    row = {"app": hostile, "names": [hostile], "text": hostile}
    assert show.plain(hostile) == "a" + "�" * len(MARKS) + "b"
    monkeypatch.setattr("sys.stdout", screen := Screen())
    monkeypatch.setattr("sys.stderr", errors := Screen())
    for form in ("table", "json", "yaml"):
        show.print_rows([row], form, {"APP": "app", "NAMES": "names"}, name="app")
    show.print_line(row, "json")
    show.say(hostile.replace("\x1b", "").replace("\x07", ""))
    for text in (screen.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", ""), errors.getvalue()):
        assert not set(MARKS) & set(text)


def test_a_file_gets_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from controller.cli import show

    monkeypatch.setattr("sys.stdout", file := io.StringIO())
    show.print_line({"app": "שלום\u200f"}, "json")
    assert file.getvalue() == '{"app": "שלום\u200f"}\n'
