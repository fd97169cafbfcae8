"""Streams that have to end: when, and event streams at a border between two events, and properly."""

from __future__ import annotations

_BORDERS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_LONGEST = 4
_SPREAD = 0.8
"""Part of the last quarter over which streams end, so that the last one has time to find its border."""


def when_to_end(starts: float, ends: float, share: float) -> float:
    """
    Return when a stream that has to be gone by *ends* is ended: in the last quarter, at *share* (0-1) of it.

    Its client comes back by itself; those of many streams shall not all come back at once.
    """
    quarter = (ends - starts) / 4
    return ends - quarter + share * quarter * _SPREAD


class EventStream:
    """Follows the borders between events of one stream."""

    __slots__ = ("_tail", "ending")

    def __init__(self, begun: bytes) -> None:
        self._tail = begun[-_LONGEST:]
        self.ending = False
        """It ends at the next border."""

    def is_at_border(self) -> bool:
        """Say whether nothing, or a whole event, was sent last."""
        return not self._tail or self._tail.endswith(_BORDERS)

    def follow(self, data: bytes) -> int | None:
        """Follow *data*; return where in it the stream ends, or None while it goes on."""
        if self.ending:
            seen = self._tail + data
            ahead = len(self._tail)
            places = ((seen.find(border, max(0, ahead - len(border) + 1)), len(border)) for border in _BORDERS)
            after = [at + size - ahead for at, size in places if at >= 0]
            if after:
                return min(after)
        self._tail = (self._tail + data)[-_LONGEST:]
        return None
