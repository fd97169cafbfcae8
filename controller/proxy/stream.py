"""An event stream that has to end: at a border between two events, and properly, since clients come back."""

from __future__ import annotations

_BORDERS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_LONGEST = 4


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
