"""Names of apps that want a pass: each at most once, the earliest due time wins, never two workers on one."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable


class Queue:
    """A delayed set of names, safe to use from any thread; `add` never blocks for long."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._busy: set[str] = set()
        self._again: dict[str, float] = {}
        self._changed = threading.Condition()

    def add(self, name: str, in_s: float = 0.0) -> None:
        """Ask for a pass over *name* in *in_s* seconds, or earlier if one waits already."""
        due = self._monotonic() + in_s
        with self._changed:
            if name in self._busy:
                self._again[name] = min(due, self._again.get(name, due))
            else:
                self._put(name, due)
            self._changed.notify()

    def _put(self, name: str, due: float) -> None:
        if name not in self._due or due < self._due[name]:
            self._due[name] = due
            heapq.heappush(self._heap, (due, name))

    def take(self, stop: threading.Event, patience_s: float = 0.5) -> str | None:
        """Return the next due name and hold it until `done`; None once *stop* is set."""
        with self._changed:
            while not stop.is_set():
                now = self._monotonic()
                if (name := self._pop(now)) is not None:
                    self._busy.add(name)
                    return name
                wait_s = self._heap[0][0] - now if self._heap else patience_s
                self._changed.wait(max(0.0, min(wait_s, patience_s)))
        return None

    def _pop(self, now: float) -> str | None:
        while self._heap:
            due, name = self._heap[0]
            if self._due.get(name) != due:
                heapq.heappop(self._heap)  # an earlier time replaced this entry
            elif due > now:
                return None
            else:
                heapq.heappop(self._heap)
                del self._due[name]
                return name
        return None

    def done(self, name: str) -> None:
        """Let go of *name*; what was asked meanwhile counts now."""
        with self._changed:
            self._busy.discard(name)
            if name in self._again:
                self._put(name, self._again.pop(name))
                self._changed.notify()

    def __len__(self) -> int:
        with self._changed:
            return len(self._due) + len(self._busy)
