"""How soon something that ended by itself is started again."""

from __future__ import annotations

_FIRST_S, _MOST_S = 0.2, 30.0
_SETTLED_S = 60.0


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
