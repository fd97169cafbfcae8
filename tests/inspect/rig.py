"""An inspector of its own process, forked as the nursery does, with a desk and a supervisor's end that a test holds."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

from controller.proxy.birth import Birth
from controller.proxy.detour import FOLDER
from controller.proxy.inspector.desk import SOCKET
from tests.proxy.rig import wait_for

TOP = Path(__file__).parents[2]
_CHILD = """
import json, socket, sys
from controller.proxy.birth import parse_birth
from controller.proxy.inspector.serve import serve_inspector
serve_inspector(parse_birth(sys.argv[1]), 1, sys.argv[2], socket.socket(fileno=int(sys.argv[3])))
"""


class Line:
    """One end of a channel of JSON lines, read by a thread."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError, ValueError), self.sock.makefile("rb") as file:
            for line in file:
                self.heard.append(json.loads(line))

    def say(self, **message: Any) -> None:
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def said(self, key: str) -> list[dict[str, Any]]:
        return [message for message in self.heard if key in message]

    def close(self) -> None:
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self.sock.close()


class Inspector:
    """A running inspector of the app "shop", working in the current directory."""

    def __init__(self, addons: Sequence[tuple[str, str]] = (), *, wait: bool = True) -> None:
        own = FOLDER / "shop"
        own.mkdir(parents=True, exist_ok=True)
        self._door = socket.socket(socket.AF_UNIX)
        desk = FOLDER / Path(SOCKET).name
        desk.unlink(missing_ok=True)
        self._door.bind(str(desk))
        self._door.listen()
        self._door.settimeout(20)
        ours, theirs = socket.socketpair()
        folder = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
        birth = Birth(control=-1, folder=folder)
        command = (sys.executable, "-c", _CHILD, birth.render(), "shop", str(theirs.fileno()))
        self.process = subprocess.Popen(
            command, pass_fds=(theirs.fileno(), folder), cwd=own, env={**os.environ, "PYTHONPATH": str(TOP)}
        )
        theirs.close()
        os.close(folder)
        self.lease = Line(ours)
        self.desk = Line(self._door.accept()[0])
        wait_for(lambda: self.desk.said("hello"), 20)
        self.desk.say(addons=[list(pair) for pair in addons])
        if wait:
            wait_for(lambda: self.lease.said("accepting"), 20)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(5)
        self.lease.close()
        self.desk.close()
        self._door.close()


@contextmanager
def an_inspector(folder: Path, *addons: tuple[str, str]) -> Iterator[Inspector]:
    """Yield an inspector whose state/proxy is *folder*, which becomes the current directory."""
    with chdir(folder):
        made = Inspector(addons)
        try:
            yield made
        finally:
            made.close()
