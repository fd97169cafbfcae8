"""How soon something that ended by itself is started again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

_FIRST_S, _MOST_S = 0.2, 30.0
_SETTLED_S = 60.0
_WORKER_MOST_S = 5.0
"""Longest wait before a worker is forked again: a fork costs milliseconds, and an outage more."""

_REFUSED_S = 1.0


class Backoff:
    """At once after a long life, then 0.2, 0.4 … *most_s* seconds while it keeps ending early."""

    def __init__(self, most_s: float = _MOST_S) -> None:
        self._most_s = most_s
        self.failures = 0
        """Early ends in a row."""
        self.due = 0.0
        """Monotonic seconds before which it is not started."""

    def ended(self, now: float, lived_s: float) -> float:
        """Note an end after *lived_s*; return the seconds to wait."""
        if lived_s >= _SETTLED_S:
            self.failures = 0
        wait_s = 0.0 if self.failures == 0 else min(self._most_s, _FIRST_S * 2.0 ** min(self.failures - 1, 10))
        self.failures += 1
        self.due = now + wait_s
        return wait_s


class Restarts:
    """The backoffs of all that the supervisor starts, and what it says of their ends."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._backoffs = {"controller": Backoff(), "nursery": Backoff(), "worker": Backoff(_WORKER_MOST_S)}

    def begin(self, what: str, start: Callable[[float], None], now: float) -> None:
        """Call *start* if *what* is due; where the machine has no process or descriptor to spare, later."""
        backoff = self._backoffs[what]
        if now < backoff.due:
            return
        try:
            start(now)
        except OSError as error:
            wait_s = backoff.ended(now, 0.0) or _REFUSED_S
            backoff.due = now + wait_s
            self._log.error(f"no {what} could be started", why=str(error), tries_again_in_s=wait_s)

    def note_end(self, what: str, now: float, lived_s: float, **fields: object) -> None:
        """Note that *what* ended unasked."""
        backoff = self._backoffs[what]
        wait_s = backoff.ended(now, lived_s)
        say = self._log.error if backoff.failures > 2 else self._log.warning
        say(f"{what} ended", **fields, times_in_a_row=backoff.failures, starts_again_in_s=wait_s)

    def dues(self, now: float) -> Iterator[float]:
        """Return when something becomes due that is not yet."""
        return (backoff.due for backoff in self._backoffs.values() if backoff.due > now)
