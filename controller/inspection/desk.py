"""Which inspectors there should be, those that are there, and what they say of themselves and of people's addons."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from controller.errors import Refused
from controller.inspection.captures import LONGEST_S, SIZE_BYTES, Capture
from controller.inspection.reports import (
    LINE_BYTES,
    Captured,
    Exhausted,
    Hello,
    Ready,
    Report,
    Trouble,
    parse_report,
)
from controller.inspection.sources import Sources, load_sources
from controller.publisher.server import Caller, FeedServer
from controller.routing.table import Table
from controller.wire.codec import Unreadable

FOLDER, SOCKET = "inspect", "desk.sock"
_LOOK_S = 1.0
_REPEAT_S = 60.0
"""The same event is written no oftener than this."""

_WRITTEN_MOST = 10
"""So many warnings and errors of one app are written within `_REPEAT_S`: an addon may raise another one each time."""

_MISSED_S = 15.0
"""So long after a worker missed an inspector, the app's message says so."""

Note = Callable[[str, str, str], None]
"""Takes an app, a level and a text."""

log = structlog.get_logger("inspection")


@dataclass(slots=True)
class _App:
    """What is known of one inspected app."""

    sources: Sources
    caller: Caller | None = None
    troubles: dict[str, str] = field(default_factory=dict)
    missed: float | None = None


class Inspection:
    """
    The desk. Every method is safe to call from any thread.

    *table* tells what is published, *wish* has exactly the named apps inspected, *note* writes an event.
    """

    def __init__(
        self,
        state: Path,
        *,
        table: Callable[[], Table],
        note: Note,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wish: Callable[[Mapping[str, str]], None] = lambda _wishes: None
        self.kill: Callable[[int], None] = lambda _pid: None
        self._state, self._table, self._note, self._monotonic = state, table, note, monotonic
        self._lock = threading.RLock()
        folder = state / "proxy" / FOLDER
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        # Inspectors share no group with us. Only they stand inside of these folders, and who they are is asked below.
        self._server = FeedServer(folder, self._lock, self, name=SOCKET, line_bytes=LINE_BYTES, mode=0o666)
        self._roster: Mapping[int, str] | None = None
        self._apps: dict[str, _App] = {}
        self._names: dict[int, str] = {}
        """Connections, by identity, of inspectors that said whose they are."""
        self._captures: dict[int, Capture] = {}
        self._numbers = itertools.count(1)
        self._looked: float | None = None
        self._wished: dict[str, str] | None = None
        self._noted: dict[str, dict[str, float]] = {}
        """App -> what was written of it lately, and when."""

    def run(self, stop: threading.Event) -> None:
        """Serve inspectors until *stop* is set."""
        self._server.run(stop)

    # What the doors ask

    def remark(self, app: str) -> str:
        """Return what a person should know of the app's inspector or addons; "" where all is well."""
        with self._lock:
            known = self._apps.get(app)
            if known is None:
                return ""
            troubles = dict(known.sources.missing) | known.troubles
            missed = known.missed is not None and self._monotonic() - known.missed < _MISSED_S
        if troubles:
            name, why = min(troubles.items())
            return f"addon {name}: {why}"
        return "its inspector is not there; see: oton events" if missed else ""

    def capture(self, app: str, seconds: float, wanted: str) -> Capture:
        """Begin to record an inspected app's requests. Raises Refused with what to do about it."""
        if not 0 < seconds <= LONGEST_S:
            raise Refused(f"a capture takes more than 0s and at most {LONGEST_S:g}s")
        with self._lock:
            known = self._apps.get(app)
            if known is None:
                raise Refused(
                    f"{app} is not inspected, so nothing can be recorded: set proxy.inspect to true in its spec"
                )
            caller = known.caller
            if caller is None:
                raise Refused(f"{app}: its inspector is not running right now; see: oton events {app}")
            number = next(self._numbers)
            capture = Capture(number, app, seconds, lambda: self._end(number, caller))
            self._captures[number] = capture
            caller.line.send({"capture": number, "filter": wanted, "size": SIZE_BYTES})
        self._server.stir()
        if why := capture.begin():
            capture.close()
            raise Refused(f"{app}: {why}")
        return capture

    def _end(self, number: int, caller: Caller) -> None:
        with self._lock:
            if self._captures.pop(number, None) is not None:
                caller.line.send({"end": number})
        self._server.stir()

    # What the supervisor, workers and inspectors say

    def set_roster(self, inspectors: Mapping[int, str] | None) -> None:
        """Take the live inspectors, process -> app: nobody else is listened to. None: the supervisor does not tell."""
        with self._lock:
            self._roster = inspectors

    def note_missed(self, message: Mapping[str, Any]) -> None:
        """Take a worker's word that an inspector was not there for a request."""
        app, why = str(message.get("app", "")), str(message.get("why", ""))
        with self._lock:
            known = self._apps.get(app)
            if message.get("what") != "inspector" or known is None:
                return
            known.missed = self._monotonic()
        then = "requests are answered with 503" if message.get("required") else "requests go round it"
        self._write(app, "warning", f"the inspector is not there ({why}): {then}")

    def take(self, caller: Caller, message: Mapping[str, Any]) -> None:
        """Take one message of an inspector. Raises Unreadable."""
        report, app = parse_report(message), self._names.get(id(caller))
        if isinstance(report, Hello):
            if app is not None:
                raise Unreadable("it registers twice")
            if self._is_expected(caller, report.app):
                self._welcome(caller, report.app)
        elif app is not None:  # else nobody wants it, and the supervisor lets it go
            self._take_report(app, report)

    def _is_expected(self, caller: Caller, app: str) -> bool:
        with self._lock:
            known = app if self._roster is None or caller.pid is None else self._roster.get(caller.pid)
        if known is None:
            caller.line.closed = True  # the supervisor's word may be on its way; an inspector comes back
        elif known != app:
            raise Unreadable(f"the inspector of {known} says that it is that of {app}")
        return known == app

    def _take_report(self, app: str, report: Report | None) -> None:
        match report:
            case Captured(number, news):
                with self._lock:
                    capture = self._captures.get(number)
                if capture is not None and capture.app == app:
                    capture.put(news)
            case Trouble(addon, error):
                self._take_trouble(app, addon, error)
            case Exhausted(size_bytes):
                used = f"the inspector has used up its {size_bytes // 1024**2} MiB of memory"
                self._write(app, "warning", f"{used} and is replaced")
            case Ready(addons):
                with self._lock:
                    if (known := self._apps.get(app)) is not None:
                        known.missed = None  # whoever missed it will find it now
                names = ", ".join(addons)
                text = f"the inspector serves with addons: {names}" if names else "the inspector serves"
                self._write(app, "info", text)

    def refuse(self, caller: Caller, why: str) -> None:
        """Say that an inspector's message could not be understood; its connection has ended."""
        app = self._names.get(id(caller), "")
        log.error("an inspector's message cannot be read", app=app, why=why)
        if app:
            self._write(app, "error", f"the inspector said what cannot be read ({why})")
        with self._lock:
            is_inspector = caller.pid in (self._roster or ())
        if caller.pid is not None and is_inspector:
            self.kill(caller.pid)

    def lost(self, caller: Caller) -> None:
        """Note that an inspector's connection has ended."""
        with self._lock:
            app = self._names.pop(id(caller), "")
            known = self._apps.get(app)
            if known is not None and known.caller is caller:
                known.caller = None
                for capture in self._captures.values():
                    if capture.app == app:
                        capture.put({"over": "the inspector ended"})

    def look(self) -> None:
        """Compare what is published with what was wished."""
        now = self._monotonic()
        if self._looked is not None and now - self._looked < _LOOK_S:
            return
        self._looked = now
        wanted = {name: routes.policy.addons for name, routes in self._table().apps.items() if routes.policy.inspect}
        found = {app: load_sources(self._state, addons) for app, addons in sorted(wanted.items())}
        self._take_sources(found)
        wishes = {app: sources.wish for app, sources in found.items()}
        if wishes != self._wished:
            self._wished = wishes
            self.wish(wishes)

    def _welcome(self, caller: Caller, app: str) -> None:
        with self._lock:
            known = self._apps.get(app)
            if known is None:
                return  # nobody wants it: the supervisor lets it go
            self._names[id(caller)] = app
            known.caller = caller
            known.troubles.clear()
            caller.line.send({"addons": [list(pair) for pair in known.sources.addons]})

    def _take_sources(self, found: Mapping[str, Sources]) -> None:
        news: list[tuple[str, str]] = []
        with self._lock:
            for app in [app for app in self._apps if app not in found]:
                del self._apps[app]
                self._noted.pop(app, None)
            for app, sources in found.items():
                before = self._apps.get(app)
                if before is None or before.sources != sources:
                    news += [(app, f"addon {name}: {why}") for name, why in sources.missing]
                if before is None:
                    self._apps[app] = _App(sources)
                else:
                    before.sources = sources
        for app, text in news:
            self._write(app, "error", text)

    def _take_trouble(self, app: str, addon: str, error: str) -> None:
        with self._lock:
            known = self._apps.get(app)
            if known is None or addon not in {name for name, _ in known.sources.addons}:
                return  # the addon was taken out meanwhile, or never was
            known.troubles[addon] = error
        self._write(app, "error", f"addon {addon}: {error}")

    def _write(self, app: str, level: str, text: str) -> None:
        now = self._monotonic()
        with self._lock:
            if level != "info" and not self._is_news(app, text, now):
                return
        self._note(app, level, text)

    def _is_news(self, app: str, text: str, now: float) -> bool:
        recent = {what: when for what, when in self._noted.get(app, {}).items() if now - when < _REPEAT_S}
        self._noted[app] = recent
        if text in recent or len(recent) >= _WRITTEN_MOST:
            return False
        recent[text] = now
        return True
