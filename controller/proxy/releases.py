"""Which releases apps have upstreams of, and which have left for so long that their counts may be added up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

STAYS_S = 60.0
"""So long the counts of a release that left stay apart: whoever reads them now and then sees how it ended."""


class Serving(Protocol):
    """An app with the releases that it has upstreams of."""

    name: str

    def releases(self) -> frozenset[int]: ...


class Releases:
    """Releases by app, and since when those that left are gone."""

    def __init__(self) -> None:
        self._apps: dict[str, tuple[Serving, frozenset[int]]] = {}
        self._left: dict[tuple[str, int], float] = {}
        """(app, release) -> until when it stays; in the order in which they left."""

    def look_at(self, apps: Iterable[Serving], now: float) -> None:
        """Note what *apps*, which have changed, have upstreams of now."""
        for app in apps:
            before = self._apps.get(app.name, (app, frozenset()))[1]
            current = app.releases()
            for release in sorted(before - current):
                self._left[app.name, release] = now + STAYS_S
            for release in current - before:
                self._left.pop((app.name, release), None)
            if current:
                self._apps[app.name] = (app, current)
            else:
                self._apps.pop(app.name, None)

    def take_left(self, now: float) -> list[tuple[str, int]]:
        """Return the releases whose time is over, once each."""
        due = []
        for key, until in self._left.items():
            if until > now:
                break
            due.append(key)
        for key in due:
            del self._left[key]
        return due
