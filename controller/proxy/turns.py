"""
What one connection may have worked off before the others have their turn.

A read brings up to 256 KiB, and what is in it is the sender's choice: one piece of a body, or ten thousand requests,
chunks, frames or TLS records. So work is counted in units, a connection does a piece of it in one turn of the event
loop, and what is left waits, unread bytes behind it, for a coming turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

REQUEST = 32
"""Units that a request costs; its head costs one more for every `HEAD_BYTES`."""
HEAD_BYTES = 8
PIECE = 512
"""Units of one piece; the smallest things (a chunk's line, a frame, a TLS record) are one, 1 to 3 µs."""
LEAST = REQUEST
"""Units of a piece while the turn is full: enough for one request, as any client may send."""
PIECES = 4
"""Connections that wait and go on in one turn."""


class Turns:
    """Deals out the turns of one worker's event loop."""

    __slots__ = ("_armed", "_serving", "_waiting", "left")

    def __init__(self) -> None:
        self.left: float = PIECE
        """Units left of the piece that is being worked off now."""
        self._waiting: deque[Callable[[], None]] = deque()
        self._serving = False
        self._armed = False

    def begin(self) -> None:
        """Begin a piece for the connection that has the word now."""
        self.left = PIECE if self._serving or len(self._waiting) < PIECES else LEAST

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call *go_on* in a coming turn, after those that waited before."""
        self._waiting.append(go_on)
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._armed = False
        waiting = self._waiting
        for _ in range(min(PIECES, len(waiting))):
            go_on = waiting.popleft()
            self._serving = True
            try:
                go_on()
            finally:
                self._serving = False
                if waiting and not self._armed:
                    self._armed = True
                    asyncio.get_running_loop().call_soon(self._turn)


class Inlet:
    """Reading from one connection: stopped while its receiver asks for it, and while what was read waits for a turn."""

    __slots__ = ("_go_on", "_transport", "_turns", "stopped", "waits")

    def __init__(self, transport: asyncio.ReadTransport, turns: Turns, go_on: Callable[[], None]) -> None:
        self._transport = transport
        self._turns = turns
        self._go_on = go_on
        self.stopped = False
        """The receiver wants nothing more."""
        self.waits = False
        """Something that was read waits for its turn."""

    def stop(self) -> None:
        """Read no more until `start`."""
        if not self.stopped:
            self.stopped = True
            self._transport.pause_reading()

    def start(self) -> None:
        """Read again."""
        if self.stopped:
            self.stopped = False
            if not self.waits:
                self._transport.resume_reading()

    def wait(self) -> None:
        """Go on with what was read in a coming turn, and read nothing before that."""
        if not self.waits:
            self.waits = True
            self._transport.pause_reading()
            self._turns.wait(self._turn)

    def _turn(self) -> None:
        self.waits = False
        if self._transport.is_closing():
            return
        self._go_on()
        if not (self.waits or self.stopped or self._transport.is_closing()):
            self._transport.resume_reading()
