"""
Counters and latency histograms by app, release and status class, cheap enough to be always on.

Releases come and go: what one counted that has left the table is added to its app's *former* cells after a while, so
that a worker's memory, and what it tells each second, grow with what is served and not with what ever was.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping
from typing import Any

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the latency buckets; one more bucket takes the rest."""

FORMER = -1
"""In place of a release: all those of the app that have left."""

_Key = tuple[str, int, int]


class Cell:
    """What happened for one app, release and status class."""

    __slots__ = ("buckets", "bytes_in", "bytes_out", "count", "is_told", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.bytes_in = 0
        self.bytes_out = 0
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.is_told = True
        """It stands in the last report as it is now."""

    def add(self, seconds: float, bytes_in: int, bytes_out: int) -> None:
        """Count one request that took *seconds* from its head to the end of its answer."""
        self.count += 1
        self.seconds += seconds
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1

    def take_in(self, other: Cell) -> None:
        """Add what *other* counted."""
        self.count += other.count
        self.seconds += other.seconds
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.buckets = [one + two for one, two in zip(self.buckets, other.buckets, strict=True)]


class Meter:
    """All cells of one worker, and counters that have no release."""

    def __init__(self) -> None:
        self._cells: dict[_Key, Cell] = {}
        self._events: dict[tuple[str, str], int] = {}
        self._untold: list[tuple[_Key, Cell]] = []
        self._untold_events: set[tuple[str, str]] = set()
        self._folded: list[tuple[str, int]] = []
        self._gone: list[str] = []

    def count(self, app: str, release: int, status: int, seconds: float, bytes_in: int, bytes_out: int) -> None:
        """Count one finished request; release 0 stands for answers that no replica gave."""
        key = (app, release, status // 100)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = Cell()
        cell.add(seconds, bytes_in, bytes_out)
        if cell.is_told:
            cell.is_told = False
            self._untold.append((key, cell))

    def note(self, app: str, what: str) -> None:
        """Count an event such as `retry`, `ejection`, `held`, `cut`."""
        self._events[(app, what)] = self._events.get((app, what), 0) + 1
        self._untold_events.add((app, what))

    def fold(self, left: Collection[tuple[str, int]]) -> None:
        """Add what these releases (app, number) counted to their apps' former ones."""
        leavers = frozenset(left)
        for key in [key for key in self._cells if key[:2] in leavers]:
            cell = self._cells.pop(key)
            former = (key[0], FORMER, key[2])
            into = self._cells.setdefault(former, Cell())
            into.take_in(cell)
            if into.is_told:
                into.is_told = False
                self._untold.append((former, into))
            cell.is_told = False
        self._folded += sorted(leavers)

    def forget(self, apps: Collection[str]) -> None:
        """Drop all that was counted for *apps*, so that names that come and go cost no memory."""
        gone = frozenset(apps)
        self._cells = {key: cell for key, cell in self._cells.items() if key[0] not in gone}
        self._events = {key: count for key, count in self._events.items() if key[0] not in gone}
        self._gone += sorted(gone)

    def report(self, *, whole: bool) -> dict[str, Any]:
        """
        Return what changed since the last report, or the *whole*: plain values that only grow.

        A row takes the place of the one that was told before; those of releases in `folded` and of apps in `gone` are
        no more, and what the former counted is in the row of release -1.
        """
        told = {
            "whole": whole,
            "requests": [_render(key, cell) for key, cell in self._told_now(whole=whole)],
            "events": [
                {"app": app, "what": what, "count": count}
                for (app, what), count in self._events.items()
                if whole or (app, what) in self._untold_events
            ],
            "folded": [list(pair) for pair in self._folded],
            "gone": self._gone,
            "bounds": list(BOUNDS_S),
        }
        for _, cell in self._untold:
            cell.is_told = True
        self._untold, self._untold_events, self._folded, self._gone = [], set(), [], []
        return told

    def _told_now(self, *, whole: bool) -> list[tuple[_Key, Cell]]:
        if whole:
            return list(self._cells.items())
        return [(key, cell) for key, cell in self._untold if self._cells.get(key) is cell]


def _render(key: _Key, cell: Cell) -> Mapping[str, Any]:
    app, release, status_class = key
    return {
        "app": app,
        "release": release,
        "class": status_class,
        "count": cell.count,
        "seconds": round(cell.seconds, 6),
        "bytes_in": cell.bytes_in,
        "bytes_out": cell.bytes_out,
        "buckets": list(cell.buckets),
    }
