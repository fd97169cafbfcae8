"""A worker as the publisher sees one: a connection that says what it is told to say."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from controller.publisher import Publisher
from controller.routing.table import FORMAT, AppRoutes, Rule, Table, Upstream, encode_table
from controller.wire.codec import render_line
from controller.wire.lines import LineReader

PATIENCE_S = 5.0


def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait until *condition* holds; fail after five seconds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what or "it did not come true in time"
        time.sleep(0.002)


def routes(app: str, *upstreams: str, host: str | None = None, draining: tuple[str, ...] = ()) -> AppRoutes:
    ready = tuple(Upstream(id=one, address="127.0.0.1", port=1, release=1) for one in upstreams)
    leaving = tuple(Upstream(id=one, address="127.0.0.1", port=1, release=1, state="draining") for one in draining)
    return AppRoutes(app=app, rules=(Rule(host=host or f"{app}.test"),), upstreams=ready + leaving)


class FakeWorker:
    """Confirms every table at once, unless *mute*."""

    def __init__(
        self, state: Path, number: int, *, table: Table | None = None, first: int | None = None, mute: bool = False
    ) -> None:
        self.number, self.mute, self.heard = number, mute, []
        self.version = table.version if table else 0
        self.table = table or Table()
        self._sock = socket.socket(socket.AF_UNIX)
        until(lambda: self._sock.connect_ex(str(state / "proxy" / "feed.sock")) == 0)
        self._reader = LineReader()
        hello = {"format": FORMAT, "worker": number, "pid": 1, "version": self.version}
        self.say({"hello": {**hello, "first": first if first is not None else (self.version or None)}})
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def say(self, message: dict[str, Any]) -> None:
        self._sock.sendall(render_line(message))

    def drained(self, app: str, upstream: str, version: int) -> None:
        self.say({"kind": "drained", "app": app, "upstream": upstream, "version": version})

    def close(self) -> None:
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)
        self._sock.close()

    def _listen(self) -> None:
        with suppress(OSError):  # the publisher closed it
            self._answer()

    def _answer(self) -> None:
        while data := self._sock.recv(65536):
            for message in self._reader.feed(data):
                self.heard.append(message)
                if message.get("send") == "table":
                    self.say({"table": encode_table(self.table)})
                if "version" in message and not self.mute:
                    self.version = message["version"]
                    self.say({"confirm": self.version})

    def pushes(self) -> list[dict[str, Any]]:
        return [message for message in self.heard if "apps" in message]


class Bells:
    def __init__(self) -> None:
        self.rung: list[str] = []

    def __call__(self, app: str) -> None:
        self.rung.append(app)


@contextmanager
def publishing(state: Path, **given: Any) -> Iterator[Publisher]:
    """A publisher with its feed running."""
    publisher = Publisher(state, **{"ring": lambda _: None, **given})
    stop = threading.Event()
    thread = threading.Thread(target=publisher.run, args=(stop,))
    thread.start()
    try:
        yield publisher
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
