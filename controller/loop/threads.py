"""Threads with names, owners and ends; one that dies stops the process loudly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger("threads")

Body = Callable[[threading.Event], None]


class Threads:
    """Starts named threads that run until the common stop; remembers the first that died."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.died: str | None = None
        self._threads: list[threading.Thread] = []

    def start(self, name: str, body: Body) -> None:
        """Run *body* in a thread of its own until the stop."""
        thread = threading.Thread(target=self._run, args=(name, body), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, name: str, body: Body) -> None:
        try:
            body(self.stop)
        except BaseException:
            # Whatever it was: a house with a dead thread must not look alive.
            log.exception("a thread died; the controller is stopping", thread=name)
            self.died = self.died or name
        else:
            if self.stop.is_set():
                return
            log.error("a thread ended unexpectedly; the controller is stopping", thread=name)
            self.died = self.died or name
        self.stop.set()

    def join(self, patience_s: float) -> tuple[str, ...]:
        """Wait for all to end; return the names of those that did not within *patience_s*."""
        end = time.monotonic() + patience_s
        for thread in reversed(self._threads):
            thread.join(max(0.0, end - time.monotonic()))
        return tuple(t.name for t in self._threads if t.is_alive())
