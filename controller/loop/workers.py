"""The reconcile workers: a name from the queue, a pass, and when to look again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable

import structlog

from controller.errors import Broken, Refused, Retry, Stale
from controller.loop.observe import Ports
from controller.loop.queue import Queue
from controller.loop.reconcile import Again, backoff_s, reconcile

log = structlog.get_logger("loop")

HOLD_BROKEN_S = 60.0
"""How long an app whose pass broke an invariant of ours is left alone."""


class Workers:
    """Runs passes; `run` is the body of each worker thread, `ring` the bell of all edges."""

    def __init__(self, queue: Queue, ports: Ports, known: Callable[[], Iterable[str]]) -> None:
        self._queue = queue
        self._ports = ports
        self._known = known
        self._troubles: Counter[str] = Counter()
        self.broken: dict[str, str] = {}
        """App -> the invariant of ours that failed in its last pass."""
        self.passes = 0
        self.may_act: Callable[[], bool] = lambda: True

    def ring(self, app: str) -> None:
        """Ask for a pass over *app*, or over all there are for ""."""
        for name in [app] if app else sorted(self._known()):
            self._queue.add(name)

    def run(self, stop: threading.Event) -> None:
        """Take names and pass over them until *stop*."""
        while (name := self._queue.take(stop)) is not None:
            try:
                if self.may_act():
                    again = self._pass(name)
                    if again is not None:
                        self._queue.add(name, again)
            finally:
                self._queue.done(name)

    def _pass(self, app: str) -> float | None:
        self.passes += 1
        try:
            again = reconcile(app, self._ports)
        except (Retry, Stale) as error:
            log.warning("reconciling could not be completed and will be retried", app=app, why=self._hide(app, error))
            again = Again(None, was_trouble=True)
        except Refused as error:
            log.error("reconciling was refused", app=app, why=self._hide(app, error))
            again = Again(HOLD_BROKEN_S)
        except Exception as error:
            # One app's bug must not stop the others.
            log.exception("reconciling failed unexpectedly; the app is left alone for a minute", app=app)
            self.broken[app] = f"{type(error).__name__}: {error}" if not isinstance(error, Broken) else str(error)
            return HOLD_BROKEN_S
        self.broken.pop(app, None)
        if not again.was_trouble:
            self._troubles.pop(app, None)
            return again.in_s
        self._troubles[app] += 1
        return backoff_s(self._troubles[app])

    def _hide(self, app: str, error: Exception) -> str:
        return self._ports.secrets.mask(app, str(error))
