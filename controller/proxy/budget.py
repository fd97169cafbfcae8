"""How many requests of an app may be sent once more."""

from __future__ import annotations

from collections import deque

from controller.proxy.limits import Limits


class Budget:
    """Keeps retries below a share of the requests of the last seconds, but never below a floor."""

    __slots__ = ("_limits", "_marks", "requests", "retries")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._marks: deque[tuple[float, int, int]] = deque()
        self.requests = 0
        self.retries = 0

    def take(self, now: float) -> bool:
        """Take one retry out of the budget; False where it is spent."""
        self._mark(now)
        _, requests, retries = self._marks[0]
        second = next((mark for mark in self._marks if now - mark[0] <= 1.0), (now, 0, self.retries))
        share = self._limits.retry_share * (self.requests - requests)
        if self.retries - retries >= share and self.retries - second[2] >= self._limits.retry_floor:
            return False
        self.retries += 1
        return True

    def _mark(self, now: float) -> None:
        marks = self._marks
        while len(marks) > 1 and now - marks[1][0] > self._limits.retry_window_s:
            marks.popleft()
        if not marks or now - marks[-1][0] >= 0.1:
            marks.append((now, self.requests, self.retries))
