"""Apps that cannot be served as they were asked for: refused here, or answered with 503 by workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

import structlog

from controller.errors import Refused
from controller.publisher.peers import Peer
from controller.routing.entries import compile_entry, read_entry
from controller.routing.table import AppRoutes, encode_app
from controller.wire.codec import parse_line, render_line

_FAILED_S = 15.0
"""So long after a worker failed to check a policy, the app's message says so; that often it is logged."""

log = structlog.get_logger("publisher")

Tell = Callable[[str, str], None]
"""Takes an app that workers cannot serve and why, "" once they can."""


def check_publishable(app: str, routes: AppRoutes) -> None:
    """Compile what workers will compile, from what they will be sent; Refused names app, field and value."""
    try:
        compile_entry(read_entry(app, parse_line(render_line(encode_app(routes)))))
    except ValueError as error:
        raise Refused(f"{app} cannot be served like this: {error}") from error


class Faults:
    """What is wrong with which app. Safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused: dict[str, str] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._shut: dict[str, str] = {}

    def check(self, changes: Mapping[str, AppRoutes | None]) -> None:
        """Raise Refused for the first of *changes* that workers could not serve, and remember it for people."""
        for app, routes in sorted(changes.items()):
            try:
                if routes is not None:
                    check_publishable(app, routes)
            except Refused as error:
                with self._lock:
                    self._refused[app] = str(error)
                raise

    def published(self, apps: Iterable[str]) -> None:
        """Note that what *apps* should be is published."""
        with self._lock:
            for app in apps:
                self._refused.pop(app, None)

    def failed(self, app: str, why: str) -> None:
        """Note that a worker could not check the app's policy for a request, and answered 503."""
        now = monotonic()
        with self._lock:
            known = self._failed.get(app)
            is_new = known is None or now - known[0] >= _FAILED_S
            if is_new:
                self._failed[app] = (now, why)
        if is_new:
            log.error("a policy could not be checked, and requests got 503", app=app, why=why)

    def heard(self, peers: Iterable[Peer], tell: Tell) -> None:
        """Tell what is new in what the workers say, and what is over."""
        found = {app: why for peer in peers for app, why in peer.faults.items()}
        with self._lock:
            news = {app: why for app, why in found.items() if self._shut.get(app) != why}
            news |= dict.fromkeys(self._shut.keys() - found.keys(), "")
            self._shut = found
        for app, why in sorted(news.items()):
            if why:
                log.error("workers cannot serve an app and answer 503 for it", app=app, why=why)
            else:
                log.info("workers serve the app again", app=app)
            tell(app, why)

    def explain(self, app: str, peers: Iterable[Peer]) -> str:
        """Return what a person should know of the app; "" where all is well."""
        workers = tuple(peers)
        shut = [peer.faults[app] for peer in workers if app in peer.faults]
        if shut:
            return f"answers 503 on {len(shut)} of {len(workers)} workers, which cannot serve it: {min(shut)}"
        with self._lock:
            since, why = self._failed.get(app, (0.0, ""))
            if why and monotonic() - since < _FAILED_S:
                return f"answers some requests with 503, because its policy could not be checked: {why}"
            return self._refused.get(app, "")
