"""How much of something that is bounded each caller may have, so that none takes it from all others."""

from __future__ import annotations

import threading
from collections import Counter

from controller.api.auth import Caller
from controller.api.problems import Problem


class Shares:
    """
    Places for *limit* at once, of which one token has at most *share*, and all tokens together leave *reserve*.

    The reserve is for whoever comes by the socket. Safe to call from several threads.
    """

    def __init__(self, what: str, *, limit: int, share: int, reserve: int) -> None:
        self._what, self._limit, self._share, self._reserve = what, limit, share, reserve
        self._taken: Counter[int | None] = Counter()
        self._gate = threading.Lock()

    def __len__(self) -> int:
        return self._taken.total()

    def take(self, who: Caller) -> None:
        """Take a place. Raises the 503 where *who* may have no more."""
        with self._gate:
            limit = self._limit if who.token is None else self._limit - self._reserve
            if len(self) >= limit:
                raise Problem(503, "busy", f"{len(self)} {self._what} are open already; try again later")
            if who.token is not None and self._taken[who.token] >= self._share:
                text = f"this token has {self._share} {self._what} open already; end some first"
                raise Problem(503, "busy", text)
            self._taken[who.token] += 1

    def give_back(self, who: Caller) -> None:
        """Give a place back."""
        with self._gate:
            self._taken[who.token] -= 1
            if not self._taken[who.token]:
                del self._taken[who.token]
