"""
Carries what blocking sources yield to one asyncio reader, each from a bounded thread of its own.

Closing a source ends its thread's read, so a client that goes takes its threads with it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from controller.api.auth import Caller
from controller.api.shares import Shares

LIMIT = 128
"""Threads that may follow something at once, for all clients together."""
SHARE = 48
"""Of those for one token; an app of so many replicas can still be followed by it."""
RESERVE = 32
"""Of those for the socket alone."""
WAITING = 64
"""Items that a slow client may have waiting; the source is not read further meanwhile."""


class Threads:
    """The bounded set of threads that follow engine streams for clients."""

    def __init__(self, limit: int = LIMIT, share: int = SHARE, reserve: int = RESERVE) -> None:
        self._shares = Shares("streams", limit=limit, share=share, reserve=reserve)

    @property
    def running(self) -> int:
        """How many threads there are now."""
        return len(self._shares)

    def start(self, name: str, who: Caller, work: Callable[[], None]) -> None:
        """Run *work* in a thread of its own. Raises the 503 where *who* may have no more."""
        self._shares.take(who)

        def run() -> None:
            try:
                work()
            finally:
                self._shares.give_back(who)

        threading.Thread(target=run, name=name, daemon=True).start()


class Hose[T]:
    """Brings the items of several sources to one reader, as they come."""

    def __init__(self, threads: Threads, who: Caller) -> None:
        self._threads, self._who = threads, who
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[T] = asyncio.Queue(WAITING)
        self._closers: list[Callable[[], None]] = []
        self._open = 0
        self._gone = False
        self._news = asyncio.Event()

    @property
    def open(self) -> int:
        """How many sources still have something to say."""
        return self._open

    def add(self, name: str, source: Iterable[Any], close: Callable[[], None], turn: Callable[[Any], T]) -> None:
        """Read *source* in a thread until it ends; *close* must end it from another thread."""
        self._threads.start(name, self._who, lambda: self._pump(source, turn))
        self._open += 1
        self._closers.append(close)

    async def next(self, wait_s: float) -> T | None:
        """Return the next item; None where all sources have ended, or nothing came in *wait_s*."""
        with suppress(asyncio.QueueEmpty):
            return self._queue.get_nowait()
        if self._open == 0:
            return None
        self._news.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), wait_s)
        with suppress(asyncio.QueueEmpty):
            return self._queue.get_nowait()
        return None

    def close(self) -> None:
        """End all sources; their threads end with them."""
        self._gone = True
        for close in self._closers:
            close()
        self._drain()

    def _drain(self) -> None:
        with suppress(asyncio.QueueEmpty):
            while True:
                self._queue.get_nowait()

    def _pump(self, source: Iterable[Any], turn: Callable[[Any], T]) -> None:
        try:
            for item in source:
                if self._gone or not self._put(turn(item)):
                    return
        finally:
            with suppress(RuntimeError):  # the loop has closed under a stopping server
                self._loop.call_soon_threadsafe(self._ended)

    def _put(self, item: T) -> bool:
        try:
            asyncio.run_coroutine_threadsafe(self._offer(item), self._loop).result()
        except (RuntimeError, asyncio.CancelledError):
            return False
        return not self._gone

    async def _offer(self, item: T) -> None:
        if not self._gone:
            await self._queue.put(item)
            self._news.set()

    def _ended(self) -> None:
        self._open -= 1
        self._news.set()


class Following(StreamingResponse):
    """A stream with something to close at its end, also where the client went before the first byte."""

    def __init__(
        self, body: AsyncIterator[str | bytes], close: Callable[[], None], media_type: str, status_code: int = 200
    ) -> None:
        super().__init__(body, status_code, media_type=media_type, headers={"Cache-Control": "no-store"})
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, then close."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()
