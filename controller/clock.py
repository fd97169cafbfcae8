"""
The time, handed in: wall for people, steady for every limit.

Steady time is boot-time seconds, so it goes on during sleep and never jumps. Stored instants carry the
boot id; under another boot the two steady values cannot be compared and what remained starts anew.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on both clocks: *wall* in Unix seconds, *steady* in seconds since *boot*."""

    wall: float
    steady: float
    boot: str = ""

    def later(self, seconds: float) -> Instant:
        """Return the moment *seconds* after this one."""
        return replace(self, wall=self.wall + seconds, steady=self.steady + seconds)


class Clock(Protocol):
    """Whoever tells the time; tests hand in one that they move."""

    def now(self) -> Instant: ...


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self._boot = read_boot_id()

    def now(self) -> Instant:
        """Return the present moment."""
        return Instant(time.time(), steady_seconds(), self._boot)


def steady_seconds() -> float:
    """Return seconds since boot, sleep included; the same for every process on this machine."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def read_boot_id() -> str:
    """Return the kernel's id of this boot, or "" where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def elapsed_s(since: Instant, now: Instant) -> float:
    """Return the seconds from *since* to *now*; 0 where they belong to different boots."""
    return max(0.0, now.steady - since.steady) if since.boot == now.boot else 0.0


def render_time(wall: float) -> str:
    """Render Unix seconds as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
