"""
The engine's events, as a bell: each rings its app, a broken stream rings all.

The stream is lossy by nature (a ring of 256, dropped to slow readers) and ends silently; so the end of it is
taken for a loss, and the pulse rings for all every half minute in any case.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog
import tenacity
from docker.types import CancellableStream

from controller.clock import steady_seconds
from controller.engine import labels
from controller.engine.calls import BREAKS, Calls
from controller.engine.sight import Sight
from controller.errors import ControllerError, Retry

RESYNC_S = 30.0
PULSE_S = 5.0
"""How often the engine is asked whether it is there."""
SILENCE_S = 90.0
"""A stream silent for this long is opened anew: its other end may be gone without a word."""
LASTED_S = 10.0
TOLD = ("create", "start", "die", "oom", "pause", "unpause", "update", "rename", "destroy", "health_status")
"""What may change an answer of ours; exec events are left out, since every health check makes three."""

_log = structlog.get_logger("engine")


class Events:
    """Follows the engine; `run` reads the stream, `pulse` keeps time. Both end soon after *stop* is set."""

    def __init__(self, calls: Calls, instance: str, sight: Sight, ring: Callable[[str], None]) -> None:
        self._calls = calls
        self._instance = instance
        self._sight = sight
        self._ring = ring
        self._stream: CancellableStream[Any] | None = None
        self._lock = threading.Lock()
        self.on_resync: Callable[[], None] = lambda: None
        """Called with every resync while the engine is there."""

    def run(self, stop: threading.Event) -> None:
        """Read events until *stop* is set, opening the stream anew whenever it ends."""
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Retry),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
            stop=tenacity.stop_when_event_set(stop),
            sleep=tenacity.sleep_using_event(stop),
            reraise=True,
        )
        while not stop.is_set():
            with suppress(Retry):
                tries(self._follow, stop)

    def pulse(self, stop: threading.Event) -> None:
        """Ask every 5 s whether the engine is there; ring for all when it goes or comes back, and every 30 s."""
        resync = steady_seconds() + RESYNC_S * random.random()  # noqa: S311
        was_up = self._calls.ping()
        while not stop.wait(PULSE_S):
            believed = self._calls.reachable()  # others may have noticed a return that was over before we asked
            up = self._calls.ping()
            changed = not (was_up == believed == up)
            if changed or steady_seconds() >= resync:
                resync = steady_seconds() + RESYNC_S * random.uniform(0.8, 1.2)  # noqa: S311
                self._ring("")
                if up:
                    self.on_resync()
            if up and changed:
                self._sight.doubt()
            was_up = up
        self._close()

    def _follow(self, stop: threading.Event) -> None:
        try:
            self._read(stop)
        except ControllerError as error:
            self._sight.doubt()
            raise Retry(str(error)) from error

    def _read(self, stop: threading.Event) -> None:
        with self._calls.doing("open the event stream"):
            client = self._calls.open_client(read_s=SILENCE_S)
            client.ping()  # a frozen engine is found out here, and not by 90 s of silence
            stream = client.events(
                decode=True,
                filters={"type": "container", "event": list(TOLD), "label": labels.label_filter(self._instance)},
            )
        opened = steady_seconds()
        with self._lock:
            self._stream = stream
        try:
            self._sight.is_followed = True
            # Subscribed first, then everything is looked at: what happened before is seen by looking.
            self._sight.doubt()
            self._ring("")
            # Looked at once more now that `pulse` can close the stream: it may have tried a moment too early.
            for event in () if stop.is_set() else stream:
                if stop.is_set():
                    return
                self._take(event)
        except (*BREAKS, ValueError):
            pass  # the end of the stream in one of its many guises
        finally:
            self._sight.is_followed = False
            self._close()
            client.close()
        # One that lasted is opened again at once; only one that breaks again and again is waited for.
        if steady_seconds() - opened < LASTED_S and not stop.is_set():
            raise Retry("the engine's event stream ended at once")

    def _take(self, event: Mapping[str, Any]) -> None:
        actor = event.get("Actor") or {}
        app = (actor.get("Attributes") or {}).get(labels.APP, "")
        # Doubted before the bell: the pass that it wakes must not see what was kept from before.
        self._sight.doubt(actor.get("ID", ""))
        self._ring(app)

    def _close(self) -> None:
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(*BREAKS, AttributeError, ValueError):
                stream.close()
