"""
One JSON object a line over a stream socket: how our processes talk to each other.

A reader ignores what it does not know, so that neighbouring versions understand each other.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

_CHUNK_BYTES = 256 * 1024
_TURN_BYTES = 4 * 1024 * 1024
"""What one call of `receive` takes at most, so that a talkative process does not keep its listener from the others."""

LINE_BYTES = 64 * 1024 * 1024
"""Longest line by default: a whole table of ten thousand apps has three megabytes."""


def render_line(message: Mapping[str, Any]) -> bytes:
    """Return *message* as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class LineReader:
    """Cuts a stream of bytes into messages; what is not a JSON object is left out and counted."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self.rest_bytes = 0
        """Length of the line that has not ended yet."""
        self.garbled = 0

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Return the messages that *data* completes."""
        # Parts are joined only when a line ends: joining at each arrival would make a table of megabytes quadratic.
        head, newline, tail = data.rpartition(b"\n")
        if not newline:
            self._rest.append(data)
            self.rest_bytes += len(data)
            return []
        block = b"".join((*self._rest, head))
        self._rest = [tail] if tail else []
        self.rest_bytes = len(tail)
        return [message for line in block.split(b"\n") if (message := self._parse(line)) is not None]

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if isinstance(message, dict):
            return message
        self.garbled += bool(line.strip())
        return None


class LineSocket:
    """Both directions over a socket that never blocks its owner; the owner waits for it with a selector."""

    def __init__(self, sock: socket.socket, line_bytes: int = LINE_BYTES) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._line_bytes = line_bytes
        self.closed = False
        self._reader = LineReader()
        self._out = bytearray()

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait until the other end reads."""
        return len(self._out)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send *message*, now or when the other end reads; nothing once it is closed."""
        self.send_bytes(render_line(message))

    def send_bytes(self, line: bytes) -> None:
        """Send one line that `render_line` made."""
        if not self.closed:
            self._out += line
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the other end takes it."""
        try:
            while self._out:
                del self._out[: self.sock.send(self._out[:_CHUNK_BYTES])]
        except BlockingIOError:
            return
        except OSError:
            self._out.clear()  # gone: the reading side says so by its end of stream

    def receive(self) -> list[dict[str, Any]]:
        """Return what has arrived; sets `closed` at the other end's close, or at a line that is too long."""
        messages: list[dict[str, Any]] = []
        taken = 0
        while not self.closed and taken < _TURN_BYTES:
            try:
                data = self.sock.recv(_CHUNK_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            taken += len(data)
            messages += self._reader.feed(data)
            self.closed = not data or self._reader.rest_bytes > self._line_bytes
        return messages

    def close(self) -> None:
        """Close our end."""
        self.closed = True
        self.sock.close()
