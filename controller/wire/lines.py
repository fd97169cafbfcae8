"""Lines out of a stream of bytes, and both directions of a socket that never blocks its owner."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from controller.wire.codec import Unreadable, parse_line, render_line

_CHUNK_BYTES = 256 * 1024
_TURN_BYTES = 256 * 1024
"""What one call of `receive` takes at most, so that a talkative process does not keep its listener from the others."""

LINE_BYTES = 64 * 1024 * 1024
"""Longest line by default: a whole table of ten thousand apps has three megabytes."""


class LineReader:
    """Cuts a stream of bytes into messages, until it meets one that it cannot read."""

    def __init__(self, line_bytes: int = LINE_BYTES) -> None:
        self._line_bytes = line_bytes
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self.fault = ""
        """Why nothing more is read; "" while all is well."""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Return the messages that *data* completes, up to the first that cannot be read; never raises."""
        if self.fault:
            return []
        # Parts are joined only when a line ends: joining at each arrival would make a table of megabytes quadratic.
        head, newline, tail = data.rpartition(b"\n")
        if not newline:
            self._keep(data)
            return []
        block = b"".join((*self._rest, head))
        self._rest, self._rest_bytes = [], 0
        messages = self._parse(block)
        self._keep(tail)
        return messages

    def _keep(self, part: bytes) -> None:
        self._rest.append(part)
        self._rest_bytes += len(part)
        if self._rest_bytes > self._line_bytes:
            self._stop(f"a line is longer than {self._line_bytes} bytes")

    def _parse(self, block: bytes) -> list[dict[str, Any]]:
        messages = []
        for line in block.split(b"\n"):
            try:
                if len(line) > self._line_bytes:
                    raise Unreadable(f"a line is longer than {self._line_bytes} bytes")
                if line.strip():
                    messages.append(parse_line(line))
            except Unreadable as error:
                self._stop(str(error))
                break
        return messages

    def _stop(self, why: str) -> None:
        self.fault = self.fault or why
        self._rest, self._rest_bytes = [], 0


class LineSocket:
    """Both directions over a socket that never blocks its owner; the owner waits for it with a selector."""

    def __init__(self, sock: socket.socket, line_bytes: int = LINE_BYTES) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.closed = False
        self.fault = ""
        """Why we hear no more of it, where that is its fault; "" where it merely closed."""
        self._reader = LineReader(line_bytes)
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
        """Return what has arrived; sets `closed` at the other end's close, or at what cannot be read."""
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
            self.closed = not data
            if self._reader.fault:
                self.refuse(self._reader.fault)
        return messages

    def refuse(self, why: str) -> None:
        """Hear no more of it, since it said what cannot be understood; the first reason stays."""
        self.fault = self.fault or why
        self.closed = True

    def close(self) -> None:
        """Close our end."""
        self.closed = True
        self.sock.close()
