"""A WebSocket on a connected socket, as `exec` and `run` need one: blocking reads, writes from several threads."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Mapping

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

CHUNK = 65536
HANDSHAKE_S = 30.0


class Rejected(Exception):
    """The other side answered with HTTP instead."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"answered {status}")
        self.status, self.headers, self.body = status, dict(headers), body


class Wire:
    """One open WebSocket."""

    def __init__(self, sock: socket.socket, host: str, path: str, headers: Mapping[str, str]) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._waiting: deque[Event] = deque()
        self._parts: list[str | bytes] = []
        self._conn = WSConnection(ConnectionType.CLIENT)
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        try:
            self._sock.settimeout(HANDSHAKE_S)
            self._write(Request(host=host, target=path, extra_headers=extra))
            self._shake_hands()
            self._sock.settimeout(None)
        except BaseException:
            self._sock.close()
            raise

    def send(self, data: str | bytes) -> None:
        """Send one message. Raises OSError once the connection is over."""
        self._write(TextMessage(data=data) if isinstance(data, str) else BytesMessage(data=data))

    def receive(self) -> str | bytes | None:
        """Return the next message; None once the connection is over."""
        while (event := self._next()) is not None:
            match event:
                case Message():
                    self._parts.append(event.data if isinstance(event.data, str) else bytes(event.data))
                    if event.message_finished:
                        return self._join()
                case Ping():
                    self._write(event.response())
                case CloseConnection():
                    return None
        return None

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    def _join(self) -> str | bytes:
        parts, self._parts = self._parts, []
        if all(isinstance(part, str) for part in parts):
            return "".join(part for part in parts if isinstance(part, str))
        return b"".join(part for part in parts if isinstance(part, bytes))

    def _shake_hands(self) -> None:
        status, headers, body = 0, dict[str, str](), b""
        while (event := self._next()) is not None:
            match event:
                case AcceptConnection():
                    return
                case RejectConnection():
                    status = event.status_code
                    headers = {decode(name).lower(): decode(value) for name, value in event.headers}
                    if not event.has_body:
                        raise Rejected(status, headers, b"")
                case RejectData():
                    body += event.data
                    if event.body_finished:
                        raise Rejected(status, headers, body)
        raise ConnectionError("the connection ended before it was a WebSocket")

    def _next(self) -> Event | None:
        while not self._waiting:
            try:
                data = self._sock.recv(CHUNK)
                self._conn.receive_data(data or None)
            except (OSError, ProtocolError):
                return None
            self._waiting.extend(self._conn.events())
            if not data and not self._waiting:
                return None
        return self._waiting.popleft()

    def _write(self, event: Event) -> None:
        with self._lock:
            try:
                self._sock.sendall(self._conn.send(event))
            except ProtocolError as error:
                raise ConnectionError(str(error)) from error


def decode(data: bytes) -> str:
    """Return a header's bytes as text."""
    return bytes(data).decode("latin-1")
