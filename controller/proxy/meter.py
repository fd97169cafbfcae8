"""Counters and latency histograms by app, release and status class, cheap enough to be always on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the latency buckets; one more bucket takes the rest."""


class Cell:
    """What happened for one app, release and status class."""

    __slots__ = ("buckets", "bytes_in", "bytes_out", "count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.bytes_in = 0
        self.bytes_out = 0
        self.buckets = [0] * (len(BOUNDS_S) + 1)

    def add(self, seconds: float, bytes_in: int, bytes_out: int) -> None:
        """Count one request that took *seconds* from its head to the end of its answer."""
        self.count += 1
        self.seconds += seconds
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1


class Meter:
    """All cells of one worker, and counters that have no release."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, int, int], Cell] = {}
        self._events: dict[tuple[str, str], int] = {}

    def count(self, app: str, release: int, status: int, seconds: float, bytes_in: int, bytes_out: int) -> None:
        """Count one finished request; release 0 stands for answers that no replica gave."""
        key = (app, release, status // 100)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = Cell()
        cell.add(seconds, bytes_in, bytes_out)

    def note(self, app: str, what: str) -> None:
        """Count an event such as `retry`, `ejection`, `held`, `cut`."""
        self._events[(app, what)] = self._events.get((app, what), 0) + 1

    def forget(self, apps: Mapping[str, object]) -> None:
        """Drop the cells of apps that are not among *apps*, so that names that come and go cost no memory."""
        for cell_key in [key for key in self._cells if key[0] and key[0] not in apps]:
            del self._cells[cell_key]
        for event_key in [key for key in self._events if key[0] and key[0] not in apps]:
            del self._events[event_key]

    def snapshot(self) -> dict[str, Any]:
        """Return plain values that only grow, for the once-a-second report."""
        requests = [
            {
                "app": app,
                "release": release,
                "class": status_class,
                "count": cell.count,
                "seconds": round(cell.seconds, 6),
                "bytes_in": cell.bytes_in,
                "bytes_out": cell.bytes_out,
                "buckets": list(cell.buckets),
            }
            for (app, release, status_class), cell in self._cells.items()
        ]
        events = [{"app": app, "what": what, "count": count} for (app, what), count in self._events.items()]
        return {"requests": requests, "events": events, "bounds": list(BOUNDS_S)}
