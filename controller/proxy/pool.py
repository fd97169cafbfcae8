"""All of a worker's dealings with one upstream: its connections, what is open on it, and how it leaves."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from controller.proxy.limits import Limits
from controller.proxy.link import Link, Taker
from controller.proxy.replies import AnswerReader
from controller.proxy.turns import Turns
from controller.routing.table import Upstream


class Open(Protocol):
    """Something open on an upstream: a request, an event stream, a WebSocket."""

    def leave(self, starts: float, ends: float, share: float) -> None:
        """
        The upstream takes nothing new: be done by *ends* (monotonic seconds).

        Streams end in the last quarter of the time from *starts* to *ends*, at *share* (0 to 1) of that quarter.
        """
        ...

    def vanish(self) -> None:
        """The upstream is dead: nothing more will come from it."""
        ...

    def stay(self) -> None:
        """The upstream is back: forget what `leave` said."""
        ...

    def end_stream(self) -> None:
        """End now if this is an event stream or a WebSocket."""
        ...


class Pool:
    """One upstream of one app, as this worker sees it."""

    __slots__ = (
        "_epoch", "_idle", "_limits", "_reader", "_resting", "_tasks", "_turns", "_warm",
        "active", "ejected_until", "leaving", "open", "reported", "upstream",
    )  # fmt: skip

    def __init__(self, upstream: Upstream, limits: Limits, reader: AnswerReader, warm: set[Pool], turns: Turns) -> None:
        self.upstream = upstream
        self._turns = turns
        self._limits = limits
        self._reader = reader
        self._warm = warm
        """Every pool of the worker with unused connections; `sweep` is for these."""
        self._idle: deque[Link] = deque()
        self._resting: deque[Link] = deque()
        self._epoch = 0
        """How often a connection showed bytes beyond an answer: those that are older are not used again."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.open: set[Open] = set()
        self.active = 0
        """Requests, streams and tunnels open on it."""
        self.ejected_until = 0.0
        self.leaving = False
        """It is not picked any more: draining, gone, or out of the table."""
        self.reported = -1
        """The table version for which "drained" was told."""

    def take_idle(self, now: float, longest_s: float) -> Link | None:
        """Return a connection that was idle for at most *longest_s*, the youngest first."""
        idle = self._idle
        while idle:
            link = idle.pop()
            if not link.reusable:
                continue
            if now - link.idle_since > longest_s:
                idle.append(link)
                return None
            if link.is_quiet():
                return link
            link.close()
        return None

    def connect(self, taker: Taker) -> Link:
        """Open a connection for *taker*, who is told whether it worked unless the link was closed by then."""
        link = Link(self, self._limits, self._reader, self._turns)
        link.taker = taker
        link.epoch = self._epoch
        task = asyncio.get_running_loop().create_task(self._connect(link))
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return link

    async def _connect(self, link: Link) -> None:
        try:
            async with asyncio.timeout(self._limits.connect_s):
                await self._open(link)
        except (OSError, TimeoutError) as error:
            taker, link.taker = link.taker, None
            if taker is not None:
                taker.refused("timed out" if isinstance(error, TimeoutError) else error.strerror or "refused")
            return
        if not link.reusable:
            link.close()
        elif link.taker is not None:
            link.taker.connected(link)

    async def _open(self, link: Link) -> None:
        upstream = self.upstream
        await asyncio.get_running_loop().create_connection(lambda: link, upstream.address, upstream.port)

    def release(self, link: Link, now: float) -> None:
        """Take *link* back after its answer ended; keeps it only where that is beyond doubt."""
        if not link.reusable or self.leaving or link.epoch != self._epoch or self._is_full():
            link.close()
            return
        link.idle_since = now
        if not self._idle:
            self._warm.add(self)
        if link.rests:
            self._resting.append(link)
        else:
            self._idle.append(link)

    def _is_full(self) -> bool:
        return len(self._idle) + len(self._resting) >= self._limits.upstream_idle_count

    def lost(self, link: Link) -> None:
        """Forget a connection that ended."""
        for kept in (self._idle, self._resting):
            if link in kept:
                kept.remove(link)

    def distrust(self) -> None:
        """One of its connections showed bytes that belong to no answer: use none of those that are open again."""
        self._epoch += 1
        self.drop_idle()

    def sweep(self, now: float) -> None:
        """Close connections that were idle too long, before the replica does; take back what has rested."""
        idle, resting = self._idle, self._resting
        while resting and now - resting[0].idle_since >= self._limits.head_rest_s:
            self._take_back(resting.popleft())
        while idle and now - idle[0].idle_since > self._limits.upstream_idle_s:
            idle.popleft().close()
        if not (idle or resting):
            self._warm.discard(self)

    def _take_back(self, link: Link) -> None:
        link.rests = False
        place = len(self._idle)
        while place and self._idle[place - 1].idle_since > link.idle_since:
            place -= 1
        self._idle.insert(place, link)

    def drop_idle(self) -> None:
        """Close every unused connection."""
        for kept in (self._idle, self._resting):
            while kept:
                kept.popleft().close()
