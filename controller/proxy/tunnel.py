"""
A WebSocket between a client and a replica: bytes pass as they are, only the borders between frames are followed.

So a close frame can be put exactly between two frames when the replica leaves, and no payload is ever kept,
whatever its size.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import Protocol

from controller.proxy.chunks import Piece
from controller.proxy.limits import Limits
from controller.proxy.link import Link, Upward
from controller.proxy.stream import when_to_end
from controller.proxy.turns import Turns
from controller.proxy.wheel import NEVER, Timed, Wheel

SERVICE_RESTART = (1012).to_bytes(2, "big")
_CLOSE = 8


class Near(Timed, Protocol):
    """The client's side."""

    def write(self, data: bytes) -> None: ...
    def stop_reading(self) -> None: ...
    def start_reading(self) -> None: ...
    def cut(self) -> None: ...
    def close(self) -> None: ...


class Clockwork(Protocol):
    """The worker's limits, deadlines and turns."""

    limits: Limits
    wheel: Wheel
    turns: Turns


class Ledger(Protocol):
    """Who is told when the tunnel has ended."""

    def tunnel_ended(self, why: str, bytes_in: int, bytes_out: int) -> None: ...


class FrameCursor:
    """Follows one direction of a WebSocket: how much of a frame's header and payload is still to come."""

    __slots__ = ("_header", "_left", "closed")

    def __init__(self) -> None:
        self._header = b""
        self._left = 0
        self.closed = False
        """A close frame began."""

    def is_at_border(self) -> bool:
        """Say whether the next byte begins a frame."""
        return not self._left and not self._header

    def feed(self, data: bytes, piece: Piece, *, stop: bool = False) -> int:
        """Follow *data* as far as *piece* lasts, and no further than the first border if *stop*; return how far."""
        at, size = 0, len(data)
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
            elif piece.left <= 0:
                return at
            else:
                piece.left -= 1
                at = self._read_header(data, at)
            if stop and self.is_at_border():
                return at
        return size

    def _read_header(self, data: bytes, at: int) -> int:
        had = len(self._header)
        head = self._header + data[at : at + 14 - had]
        if len(head) < 2:
            self._header = head
            return len(data)
        length = head[1] & 0x7F
        wide = 2 if length == 126 else 8 if length == 127 else 0
        size = 2 + wide + (4 if head[1] & 0x80 else 0)
        if len(head) < size:
            self._header = head
            return len(data)
        self._left = int.from_bytes(head[2 : 2 + wide], "big") if wide else length
        if head[0] & 0x0F == _CLOSE:
            self.closed = True
        self._header = b""
        return at + size - had


def render_close(code: bytes, *, masked: bool) -> bytes:
    """Return a close frame with *code*, masked as a client's frames must be."""
    if not masked:
        return bytes((0x88, len(code))) + code
    mask = os.urandom(4)
    return bytes((0x88, 0x80 | len(code))) + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(code))


class _ReplicaSide(Upward):
    """What the link tells of the replica's side."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel

    def take(self, data: bytes) -> bytes:
        return self._tunnel.from_replica(data)

    def lost(self) -> None:
        self._tunnel.replica_lost()

    def pause(self) -> None:
        self._tunnel.near.stop_reading()

    def resume(self) -> None:
        self._tunnel.near.start_reading()


class Tunnel:
    """One open WebSocket."""

    def __init__(self, ledger: Ledger, near: Near, link: Link, idle_s: float, clockwork: Clockwork) -> None:
        self._ledger = ledger
        self.near = near
        self._link = link
        self._idle_s = idle_s
        self._limits = clockwork.limits
        self._wheel = clockwork.wheel
        self._turns = clockwork.turns
        self.upward = _ReplicaSide(self)
        self._from_client = FrameCursor()
        self._from_replica = FrameCursor()
        self._told_client = False
        self._told_replica = False
        self._ending = False
        self._over = False
        self._end_due = NEVER
        self._idle_due = NEVER
        self._cap = NEVER
        self._ends = NEVER
        self._why = ""
        self._bytes_in = 0
        self._bytes_out = 0

    def begin(self) -> None:
        """Start the clock; what either side sent before the tunnel stood comes now."""
        self._touch()

    def from_client(self, data: bytes) -> bytes:
        """Pass bytes to the replica; return those that have to wait."""
        if self._over:
            return b""
        told = self._told_replica
        size = self._from_client.feed(data, self._turns, stop=self._ending and not told)
        self._bytes_in += size
        if told:
            self._close_if_done()
            return data[size:]
        whole = size == len(data)
        self._link.transport.write(data if whole else data[:size])
        if self._ending:
            self._tell()
        else:
            self._touch()
        return b"" if whole else data[size:]

    def from_replica(self, data: bytes) -> bytes:
        """Pass bytes to the client; return those that have to wait."""
        if self._told_client or self._over:
            return b""
        size = self._from_replica.feed(data, self._turns, stop=self._ending)
        whole = size == len(data)
        self._bytes_out += size
        self.near.write(data if whole else data[:size])
        if self._ending:
            self._tell()
        else:
            self._touch()
        return b"" if whole else data[size:]

    def end(self) -> None:
        """Close both sides with 1012 as soon as each is between two frames."""
        if self._ending or self._over:
            return
        self._ending = True
        self._why = "drained"
        self._wheel.arm(self.near, min(self._ends, monotonic() + self._limits.websocket_close_s))
        self._tell()

    def _tell(self) -> None:
        if not self._told_client and self._from_replica.is_at_border():
            self._told_client = True
            if not self._from_replica.closed:
                self.near.write(render_close(SERVICE_RESTART, masked=False))
        if not self._told_replica and self._from_client.is_at_border():
            self._told_replica = True
            if not self._from_client.closed:
                self._link.transport.write(render_close(SERVICE_RESTART, masked=True))
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._told_client and self._told_replica and self._from_client.closed:
            self.near.close()
            self._finish()

    def leave(self, starts: float, ends: float, share: float) -> None:
        """Be closed by *ends*, in the last quarter before it, at *share* of that quarter."""
        self._ends = ends
        self._end_due = when_to_end(starts, ends, share)
        if self._end_due < self.near.due:
            self._wheel.arm(self.near, self._end_due)

    def stay(self) -> None:
        """The upstream is back: go on."""
        self._end_due = self._ends = NEVER

    def expire(self, now: float) -> None:
        """A deadline passed: idleness, the drain's, or that of a close under way."""
        if self._ending:
            # No border came in time, or the client does not answer the close.
            if self._told_client:
                self.near.close()
            else:
                self.near.cut()
            self._finish()
        elif now >= self._end_due:
            self.end()
        elif now < self._idle_due:
            self._arm(min(self._end_due, self._idle_due))  # an upstream that came back took its deadline away
        else:
            self._why = "idle"
            self.near.close()
            self._finish()

    def client_lost(self) -> None:
        """The client has gone."""
        self._why = self._why or "client left"
        self._finish()

    def replica_lost(self) -> None:
        """The replica has gone; what it sent before reaches the client."""
        if self._over or self._told_client:
            return
        self._why = self._why or "closed"
        self.near.close()
        self._finish()

    def pause(self, due: float) -> None:
        """The client does not read as fast as the replica sends; it has until *due* to show some pace."""
        self._cap = due
        self._arm(min(self._end_due, due))
        self._link.pause()

    def resume(self) -> None:
        """The client reads again."""
        self._cap = NEVER
        if self._over:
            return
        self._link.resume()
        if not self._ending:
            self._touch()

    def _touch(self) -> None:
        self._idle_due = monotonic() + self._idle_s
        self._arm(min(self._end_due, self._idle_due, self._cap))

    def _arm(self, due: float) -> None:
        if due < self.near.parked:
            self._wheel.arm(self.near, due)
        else:
            self.near.due = due

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        if self._link.transport is not None:
            # close, not abort: the replica shall still get the close frame that was written
            self._link.transport.close()
        self._ledger.tunnel_ended(self._why, self._bytes_in, self._bytes_out)
