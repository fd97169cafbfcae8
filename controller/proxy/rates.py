"""
Rate limits in a fixed piece of memory, so that they hold across workers and cost the same for any number of clients.

Each key has one number: when its bucket is empty again (the "theoretical arrival time" of GCRA). Keys are hashed
into slots of sixteen bytes, a tag and that number. Two workers that write the same slot at once may err by a
request; a full neighbourhood gives the slot that is nearest to empty away.
"""

from __future__ import annotations

import struct
from hashlib import blake2b

from controller.routing.table import RateLimit

SLOT_BYTES = 16
_SLOT = struct.Struct("=Qd")
_NEIGHBOURS = 4


class Rates:
    """Buckets in *memory*, whose length is a multiple of sixteen; the machine's monotonic clock is shared too."""

    def __init__(self, memory: memoryview | None = None) -> None:
        self._memory = memory if memory is not None else memoryview(bytearray(4096 * SLOT_BYTES))
        self._slots = len(self._memory) // SLOT_BYTES

    def take(self, key: str, limit: RateLimit, now: float) -> float:
        """Take one request out of *key*'s bucket; return 0, or the seconds after which there is one again."""
        tag = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") or 1
        at, full_at = self._find(tag, now)
        step = limit.per_s / limit.requests if limit.requests > 0 else float("inf")
        full_at = max(full_at, now)
        wait_s = full_at - now - step * max(0, limit.burst - 1)
        if wait_s > 0:
            return wait_s
        _SLOT.pack_into(self._memory, at, tag, full_at + step)
        return 0.0

    def _find(self, tag: int, now: float) -> tuple[int, float]:
        """Return where the bucket of *tag* is, and its number; a new one takes the emptiest slot near its place."""
        best, best_full = 0, float("inf")
        for near in range(_NEIGHBOURS):
            at = (tag + near) % self._slots * SLOT_BYTES
            found, full_at = _SLOT.unpack_from(self._memory, at)
            if found == tag:
                return at, full_at
            if full_at < best_full:
                best, best_full = at, full_at
        return best, now
