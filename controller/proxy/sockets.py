"""What the socket of a connection shows: who is there, whether something waits to be read, and how it is to end."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct

from controller.proxy.limits import Limits

_ENDED = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_RESET = struct.pack("ii", 1, 0)


def plain_address(peer: object) -> str:
    """Return the address of a peer's name, an IPv4 one in its own notation; "unix" where it has none."""
    if not isinstance(peer, tuple):
        return "unix"
    address = str(peer[0])
    return address[7:] if address.startswith("::ffff:") and "." in address else address.partition("%")[0]


def render_forwarded(address: str, port: int, *, tls: bool) -> bytes:
    """Return what a replica is told of a peer that is not trusted, as header lines."""
    scheme, tail = b"https" if tls else b"http", b"X-Forwarded-Port: %d\r\n" % port
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (address.encode(), scheme) + tail


def reset_on_close(transport: asyncio.BaseTransport) -> None:
    """Let the end of a connection be a reset, so that nobody takes a cut answer for a whole one."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):  # it is closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def was_reset(transport: asyncio.BaseTransport) -> bool:
    """Say whether what looks like the end of a stream is a reset: libuv tells of both alike where data came with it."""
    sock = transport.get_extra_info("socket")
    return sock is not None and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


class Doorbell:
    """Tells of an unused connection whether something waits to be read on it that its loop has not seen yet."""

    __slots__ = ("_poll",)

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)

    def look(self) -> str:
        """Return "" where all is quiet, else "bytes" or "end"."""
        found = self._poll.poll(0)
        return "" if not found else "end" if found[0][1] & _ENDED else "bytes"


class ReaderPace:
    """Whether a client reads at some pace while a full buffer waits for it."""

    __slots__ = ("_limits", "_transport", "_unread", "due", "full")

    def __init__(self, transport: asyncio.WriteTransport, limits: Limits) -> None:
        self._transport = transport
        self._limits = limits
        self._unread = 0
        self.full = False
        """A buffer waits."""
        self.due = 0.0
        """When it has to have shown some pace."""

    def begin(self, now: float) -> None:
        """A buffer waits from now on."""
        self.full = True
        self._take(self._transport.get_write_buffer_size(), now)

    def keeps_up(self, now: float) -> bool:
        """Say whether enough was read since the last look; if so it has another while."""
        unread = self._transport.get_write_buffer_size()
        if self._unread - unread < self._limits.body_bytes_per_s * self._limits.reader_window_s:
            return False
        self._take(unread, now)
        return True

    def _take(self, unread: int, now: float) -> None:
        self._unread = unread
        self.due = now + self._limits.reader_window_s
