"""`oton exec` and `oton run`: our streams are the command's streams, our exit code is its exit code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer

from controller.cli.client import Client, app_path
from controller.cli.options import AppName, target
from controller.cli.pipes import ReaderGone
from controller.cli.trouble import USAGE, Trouble
from controller.cli.wire import Wire

OURS = 125
"""The exit code that says: we failed, not the command."""
CHUNK = 32768

Command = Annotated[list[str] | None, typer.Argument(metavar="-- CMD…", show_default=False)]
NoTty = Annotated[bool, typer.Option("--no-tty", "-T", help="No terminal for the command, even where we have one.")]


def exec_(
    app: AppName,
    command: Command = None,
    no_tty: NoTty = False,
    replica: Annotated[str | None, typer.Option("--replica", metavar="R", help="Its name or number.")] = None,
) -> int:
    """Run a command inside a replica; the exit code is the command's (125: we failed, 126, 127 as in a shell)."""
    return talk(app, "exec", command, no_tty, {"replica": replica})


def run(
    app: AppName,
    command: Command = None,
    no_tty: NoTty = False,
    release: Annotated[int | None, typer.Option("--release", metavar="N", min=1, help="With that release.")] = None,
) -> int:
    """Run a command in a one-off container with the app's spec; the exit code is the command's."""
    return talk(app, "run", command, no_tty, {"release": release})


def talk(app: str, verb: str, command: list[str] | None, no_tty: bool, more: dict[str, Any]) -> int:
    """Open the WebSocket, carry bytes, return the exit code."""
    words = command or []
    if not words:
        raise Trouble(USAGE, f"{verb}: no command", hint=f"oton {verb} {app} -- CMD…")
    with_tty = not no_tty and sys.stdin.isatty() and sys.stdout.isatty()
    wish = {"command": words, "tty": with_tty, "size": list(shutil.get_terminal_size()), **more}
    try:
        with Client(target()) as client:
            wire = client.web_socket(app_path(app, verb))
            wire.send(json.dumps(wish))
            with terminal(wire, with_tty):
                return carry(wire)
    except Trouble as trouble:
        if trouble.code in (126, 127):
            raise
        # 8 or 6 would read as the command's own exit code.
        raise Trouble(OURS, trouble.text, lines=trouble.lines, hint=trouble.hint) from trouble


def carry(wire: Wire) -> int:
    """Carry bytes both ways until the command ends; return its exit code."""
    threading.Thread(target=send_input, args=(wire,), name="stdin", daemon=True).start()
    while (message := wire.receive()) is not None:
        if isinstance(message, str):
            ended = json.loads(message)
            if ended.get("error"):
                raise_ended(ended)
            return int(ended["exit"])
        write_all(2 if message[:1] == b"\x02" else 1, message[1:])
    raise Trouble(OURS, "the connection ended before the command did")


def raise_ended(ended: dict[str, Any]) -> None:
    """Raise what kept the command from running."""
    raise Trouble(int(ended["exit"]), str(ended["error"]))


def send_input(wire: Wire) -> None:
    """Send our input until its end, which is passed on."""
    with suppress(OSError):
        while data := os.read(0, CHUNK):
            wire.send(data)
        wire.send(b"")


def write_all(sink: int, data: bytes) -> None:
    """Write all of *data*, past Python's buffers: it may be half a character."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(sink, view) :]
    except BrokenPipeError as error:
        raise ReaderGone from error


@contextmanager
def terminal(wire: Wire, with_tty: bool) -> Iterator[None]:
    """Hand the terminal over: every key goes to the command, and it is told of each new size."""
    if not with_tty:
        yield
        return
    before = termios.tcgetattr(0)

    def tell_size(*_: Any) -> None:
        with suppress(OSError):
            wire.send(json.dumps({"size": list(shutil.get_terminal_size())}))

    old = signal.signal(signal.SIGWINCH, tell_size)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, old)
