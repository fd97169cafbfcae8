"""
One coarse clockwork for all deadlines of a worker, in place of a timer for each connection.

Whoever has a deadline writes it to its own `due`; the wheel looks at each parked item no earlier than it was
parked for, and parks it again where the deadline has moved away meanwhile. So moving a deadline further out,
which every request does, costs one assignment.
"""

from __future__ import annotations

from typing import Protocol

NEVER = float("inf")


class Timed(Protocol):
    """Something with a deadline on the worker's monotonic clock."""

    due: float
    """When it expires; NEVER while it has no deadline."""
    parked: float
    """The moment the wheel looks at it next; owned by the wheel, NEVER at first."""

    def expire(self, now: float) -> None:
        """Act on the deadline; a new `due` set meanwhile is respected."""
        ...


class Wheel:
    """Deadlines to within one tick: never early, at most a tick (and the loop's own lag) late."""

    def __init__(self, tick_s: float = 0.1) -> None:
        self.tick_s = tick_s
        self._slots: dict[int, set[Timed]] = {}
        self._turned = 0

    def arm(self, item: Timed, due: float) -> None:
        """Let *item* expire at *due*."""
        item.due = due
        if due < item.parked:
            self._park(item, due)

    def forget(self, item: Timed) -> None:
        """Drop *item*, which has ended: kept to its deadline, it would keep its connection's memory as long."""
        self._leave_slot(item)
        item.due = item.parked = NEVER

    def turn(self, now: float) -> None:
        """Expire everything that is due at *now*."""
        last = int(now / self.tick_s)
        if not self._turned:
            self._turned = last - 1
        for slot in sorted(slot for slot in self._slots if slot <= last):
            for item in self._slots.pop(slot):
                self._look(item, slot, now)
        self._turned = last

    def _look(self, item: Timed, slot: int, now: float) -> None:
        if item.parked == NEVER or self._slot(item.parked) != slot:
            return  # it was parked for an earlier moment since, and looked at then
        item.parked = NEVER
        if item.due <= now:
            item.due = NEVER
            item.expire(now)
        elif item.due != NEVER:
            self._park(item, item.due)

    def _park(self, item: Timed, due: float) -> None:
        self._leave_slot(item)
        item.parked = due
        self._slots.setdefault(self._slot(due), set()).add(item)

    def _leave_slot(self, item: Timed) -> None:
        if item.parked != NEVER:
            slot = self._slots.get(self._slot(item.parked))
            if slot is not None:
                slot.discard(item)

    def _slot(self, due: float) -> int:
        return int(due / self.tick_s) + 1
