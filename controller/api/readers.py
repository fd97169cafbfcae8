"""Specs are read beside the event loop, a few at once, and not in the threads that everything else is answered from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from controller.api.auth import Caller
from controller.api.shares import Shares

AT_ONCE = 2
"""Specs that are read at the same time; more would only share the same processor."""
LIMIT, SHARE, RESERVE = 64, 16, 16
"""Specs that may wait, of one token, and of the socket alone."""


class Readers:
    """The few threads in which specs are read and uploaded."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="spec")
        self._shares = Shares("specs", limit=LIMIT, share=SHARE, reserve=RESERVE)

    async def run[T](self, who: Caller, work: Callable[[], T]) -> T:
        """Return what *work* returns. Raises the 503 where too many wait already."""
        self._shares.take(who)
        try:
            future = self._pool.submit(work)
        except RuntimeError:
            self._shares.give_back(who)
            raise
        # By the thread and not by the request: one that is cut must not free a place that is still taken.
        future.add_done_callback(lambda _: self._shares.give_back(who))
        return await asyncio.wrap_future(future)
