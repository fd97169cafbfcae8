"""
The bell of the watched directory: something may have changed, go and look.

watchfiles goes silent when its root is replaced, ends on a name that is not UTF-8 and cannot start when
inotify is exhausted; so it is started again whenever it ends, and says whether it can be relied on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import structlog
from watchfiles import watch

log = structlog.get_logger("intake")

STEP_MS = 10
"""How long the directory has to be quiet before the bell rings."""
DEBOUNCE_MS = 50
"""The bell rings after this even if it is not quiet."""
AGAIN_S = 0.2
LONGEST_S = 30.0
"""Between attempts to watch, growing from the first to the second while they fail."""


class Watcher:
    """Rings whenever something below a directory changes, as far as the kernel tells."""

    def __init__(self, root: Path, ring: Callable[[], None]) -> None:
        self._root = root
        self._ring = ring
        self._round = threading.Event()
        """Set to end the present watch and begin another."""
        self._pause = threading.Event()
        self.reliable = False
        """False while changes may go unnoticed, so that the directory has to be polled."""

    def renew(self) -> None:
        """Watch anew what stands at the directory's name now."""
        self._round.set()
        self._pause.set()

    def run(self, stop: threading.Event) -> None:
        """Watch until *stop*; who sets it calls `renew`, too, to be heard at once."""
        failures = 0
        while not stop.is_set():
            self._round.clear()
            self._pause.clear()
            trouble = self._watch(stop)
            failures = self._count(failures, trouble)
            self.reliable = False
            if stop.is_set() or self._round.is_set():
                continue
            # Whatever happened while nobody watched is found by looking.
            self._ring()
            self._pause.wait(min(AGAIN_S * 2 ** min(failures - 1, 8), LONGEST_S))

    def _watch(self, stop: threading.Event) -> str:
        """Watch once, until *stop*, a renewal or trouble; return the trouble."""
        try:
            changes = watch(
                self._root,
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                stop_event=_Either(stop, self._round, self._began),
                raise_interrupt=False,
                rust_timeout=0,
                ignore_permission_denied=True,
            )
            for _ in changes:
                self._ring()
        except (OSError, RuntimeError, ValueError) as error:
            return str(error) or type(error).__name__
        return ""

    def _began(self) -> None:
        if not self.reliable:
            self.reliable = True
            # What changed before the kernel was listening rang no bell.
            self._ring()

    def _count(self, failures: int, trouble: str) -> int:
        """Return how often in a row watching did not even begin, counting from 1 for what may pass soon."""
        if self.reliable or not self._root.is_dir():
            if trouble:
                log.info("watching the directory stopped and is starting again", root=str(self._root), why=trouble)
            return 1
        if failures == 1:
            log.warning("the directory cannot be watched; polling it instead", root=str(self._root), why=trouble)
        return failures + 1


class _Either:
    """Set as soon as one of two events is; *asked* is called whenever somebody wants to know."""

    def __init__(self, one: threading.Event, other: threading.Event, asked: Callable[[], None]) -> None:
        self._one = one
        self._other = other
        self._asked = asked

    def is_set(self) -> bool:
        self._asked()
        return self._one.is_set() or self._other.is_set()
