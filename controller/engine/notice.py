"""What a person is told of an engine that goes away and comes back: one line each time."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from controller.clock import steady_seconds

AWAY = "the container engine cannot be reached: apps keep serving; nothing is changed or repaired until it answers"

log = structlog.get_logger("engine")


class Notice:
    """Says in the log and in the events that the engine went, why, and that it is back; a quiet start says nothing."""

    def __init__(self, note: Callable[[str, str], None]) -> None:
        self._note = note
        self._away_since: float | None = None

    def __call__(self, up: bool, why: str) -> None:
        """Take the news that the engine answers, or that it does not because of *why*."""
        if up and self._away_since is not None:
            text = f"the container engine answers again after {steady_seconds() - self._away_since:.0f} s"
            self._away_since = None
            log.warning(text)
            self._note("info", text)
        elif not up:
            self._away_since = steady_seconds()
            log.warning(AWAY, why=why)
            self._note("warning", f"{AWAY} ({why})")
