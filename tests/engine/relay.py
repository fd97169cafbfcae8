"""A relay in front of the engine's socket that loses replies, freezes and cuts connections on demand."""

from __future__ import annotations

import os
import re
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ENGINE = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")


class Relay:
    """Listens on a Unix socket of its own; a client that uses `host` talks to the real engine through it."""

    def __init__(self) -> None:
        # Not under pytest's tmp_path: a Unix socket's path must be short.
        self._folder = tempfile.TemporaryDirectory(prefix="oton-relay-")
        self.path = Path(self._folder.name) / "docker.sock"
        self.host = f"unix://{self.path}"
        self.requests: list[str] = []
        self._lost: list[re.Pattern[str]] = []
        self._frozen: list[re.Pattern[str]] = []
        self._thawed = threading.Condition()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._closed = False
        self.listen()

    def lose_reply(self, pattern: str) -> None:
        """Let the next request that matches (`POST .*/containers/create`) be done, and its reply be lost."""
        self._lost.append(re.compile(pattern))

    @contextmanager
    def freeze(self, pattern: str = "") -> Iterator[None]:
        """Let requests that match hang, as with a stopped engine, until the block ends."""
        frozen = re.compile(pattern)
        self._frozen.append(frozen)
        try:
            yield
        finally:
            with self._thawed:
                self._frozen.remove(frozen)
                self._thawed.notify_all()

    def cut(self) -> None:
        """Close every open connection."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for each in pair:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def listen(self) -> None:
        """Accept connections (again)."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def go_away(self) -> None:
        """Be like an engine that was stopped."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.path.unlink(missing_ok=True)
        self.cut()

    def close(self) -> None:
        self._closed = True
        self.go_away()
        with self._thawed:
            self._frozen.clear()
            self._thawed.notify_all()
        self._folder.cleanup()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(ENGINE)
            with self._lock:
                self._pairs.append((client, engine))
            state = {"lose": False}
            threading.Thread(target=self._up, args=(client, engine, state), daemon=True).start()
            threading.Thread(target=self._down, args=(client, engine, state), daemon=True).start()

    def _up(self, client: socket.socket, engine: socket.socket, state: dict[str, bool]) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                line = data.split(b"\r\n", 1)[0].decode("latin-1")
                if re.match(r"(GET|POST|DELETE|HEAD|PUT) ", line):
                    self.requests.append(line)
                    for pattern in [each for each in self._lost if each.search(line)][:1]:
                        self._lost.remove(pattern)
                        state["lose"] = True
                    with self._thawed:
                        self._thawed.wait_for(lambda: not any(each.search(line) for each in self._frozen))  # noqa: B023
                engine.sendall(data)
        with suppress(OSError):
            engine.shutdown(socket.SHUT_WR)

    def _down(self, client: socket.socket, engine: socket.socket, state: dict[str, bool]) -> None:
        with suppress(OSError):
            while data := engine.recv(65536):
                if state["lose"]:
                    break
                client.sendall(data)
        for each in (client, engine):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def a_relay() -> Iterator[Relay]:
    relay = Relay()
    try:
        yield relay
    finally:
        relay.close()
