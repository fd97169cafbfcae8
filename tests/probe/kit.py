"""Replicas that answer as told, a clock that is moved by hand, and targets with good defaults."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from controller.clock import Instant, SystemClock
from controller.ports import Target
from controller.probe import Probes
from controller.spec.model import Health

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class HandClock:
    """A clock that stands until it is moved."""

    def __init__(self, steady: float = 1000.0) -> None:
        self.steady = steady

    def now(self) -> Instant:
        return Instant(1_700_000_000.0 + self.steady, self.steady, "boot")


class Talker:
    """A TCP server that reads a request and says what *say* returns for it; None: closes without a word."""

    def __init__(self, say: Callable[[bytes], bytes | None] = lambda request: OK) -> None:
        self.say = say
        self.close_after = False
        self.requests: list[bytes] = []
        self.connections = 0
        self.ended = 0
        self.once = False
        """Answer the first request of each connection, and close at the second without a word."""
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            data, answered = b"", 0
            while chunk := connection.recv(65536):
                data += chunk
                while b"\r\n\r\n" in data:
                    request, _, data = data.partition(b"\r\n\r\n")
                    self.requests.append(request)
                    answer = None if self.once and answered else self.say(request)
                    if answer is None:
                        return
                    answered += 1
                    connection.sendall(answer)
                    if self.close_after:
                        return
            self.ended += 1

    def drop(self) -> None:
        """Close every open connection."""
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def stop_listening(self) -> None:
        """Refuse connections from now on, and end those that are open."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def close(self) -> None:
        self.stop_listening()
        self._thread.join(5)


@contextmanager
def a_talker(say: Callable[[bytes], bytes | None] = lambda request: OK) -> Iterator[Talker]:
    talker = Talker(say)
    try:
        yield talker
    finally:
        talker.close()


def a_target(replica: str = "r1", *, port: int | None = 8000, **fields: Any) -> Target:
    """Return a target of method path; what is not the target's own goes to its health."""
    own = {
        key: fields.pop(key)
        for key in ("app", "address", "method", "host", "https", "started", "verdict", "engine_log", "running")
        if key in fields
    }
    own["known_ready"] = fields.pop("known_ready", False)
    method = own.setdefault("method", "path")
    if method == "path":
        fields.setdefault("path", "/healthz")
    defaults = {"app": "shop", "address": "127.0.0.1", "host": "shop.test", "https": False, "started": 0.0}
    return Target(replica=replica, port=port, health=Health.model_validate(fields), **{**defaults, **own})


class Asker:
    """A prober that runs, and what it rang."""

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.clock = SystemClock()
        self.probes = Probes(self.rung.append, self.clock)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.probes.run, args=(self._stop,), daemon=True)
        self._thread.start()

    def verdict(self, replica: str = "r1", app: str = "shop") -> Any:
        return self.probes.verdicts(app)[replica]

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        assert not self._thread.is_alive()


def wait_for[T](ask: Callable[[], T], within_s: float = 5.0) -> T:
    """Return the first true answer of *ask*; fail after *within_s*."""
    end = time.monotonic() + within_s
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not so within {within_s} s; last answer: {answer!r}")
        time.sleep(0.005)
