"""
Which of an app's upstreams a request goes to.

Weights are met by a deterministic counter, not by chance, so that any thousand requests keep the share; among
the replicas of one release, the one with fewer requests in flight of two drawn is taken. Stickiness is a
keyed hash that any worker can check and no client can aim.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar


class Loaded(Protocol):
    """An upstream with the requests that it is answering now."""

    active: int


L = TypeVar("L", bound=Loaded)


class Shares:
    """
    Deals releases out by weight, evenly at every moment (smooth weighted round robin).

    After any run of requests each release is within one request of its share.
    """

    __slots__ = ("_credit", "_total", "_weights", "releases")

    def __init__(self, weights: Iterable[tuple[int, int]]) -> None:
        self._weights = tuple((release, weight) for release, weight in weights if weight > 0)
        self._total = sum(weight for _, weight in self._weights)
        self.releases = frozenset(release for release, _ in self._weights)
        """Those that have weight at all."""
        self._credit = {release: 0 for release, _ in self._weights}

    def next(self) -> int | None:
        """Return the release whose turn it is; None where no release has weight."""
        if not self._weights:
            return None
        credit = self._credit
        for release, weight in self._weights:
            credit[release] += weight
        best = max(self._weights, key=lambda pair: credit[pair[0]])[0]
        credit[best] -= self._total
        return best


class Draw:
    """Draws two of many without a source of chance: a full-period generator, seeded per worker."""

    __slots__ = ("_state",)

    def __init__(self, seed: int = 1) -> None:
        self._state = (seed * 2654435761 + 1) & 0xFFFFFFFF

    def fewest(self, upstreams: Sequence[L]) -> L:
        """Return the one with fewer requests in flight of two drawn; *upstreams* must not be empty."""
        count = len(upstreams)
        if count == 1:
            return upstreams[0]
        self._state = state = (self._state * 1664525 + 1013904223) & 0xFFFFFFFF
        first = (state >> 8) % count
        second = (first + 1 + (state >> 20) % (count - 1)) % count
        one, other = upstreams[first], upstreams[second]
        return other if other.active < one.active else one


def sticky_mark(key: str, name: str) -> str:
    """Return what a cookie says of *name* (a replica's id, or a release): 16 hex digits, keyed."""
    return hmac.new(key.encode(), name.encode(), hashlib.sha256).hexdigest()[:16]


def sticky_value(key: str, release: int, upstream: str | None) -> str:
    """Return a cookie's value that keeps a client at a release and, unless None, at one of its replicas."""
    release_mark = sticky_mark(key, f"release {release}")
    return release_mark if upstream is None else f"{release_mark}.{sticky_mark(key, upstream)}"


def sticky_index(key: str, releases: Iterable[int], upstreams: Iterable[str]) -> Mapping[str, int | str]:
    """Map every mark that a cookie may carry now to the release or upstream that it stands for."""
    marks: dict[str, int | str] = {sticky_mark(key, f"release {release}"): release for release in releases}
    marks.update((sticky_mark(key, upstream), upstream) for upstream in upstreams)
    return marks
