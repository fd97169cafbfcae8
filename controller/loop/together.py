"""Apps that hand routes to each other: their entries change in one publication, or not at all yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from controller.errors import Refused, Retry
from controller.ports import Ring
from controller.routing.table import AppRoutes
from controller.world.model import Routing


class Publishing(Protocol):
    """A publisher that can make several entries one version."""

    def publish_many(self, changes: Mapping[str, AppRoutes | None]) -> None: ...
    def routing(self, app: str) -> Routing: ...
    def apps(self) -> Collection[str]: ...


class Together:
    """Implements `ports.Publisher`: a publication that a partner still stands in the way of waits for it.

    *moves_with* names the apps that exchange routes with an app, itself included.
    """

    def __init__(self, publisher: Publishing, moves_with: Callable[[str], Collection[str]], ring: Ring) -> None:
        self._publisher, self._moves_with, self._ring = publisher, moves_with, ring
        self._wishes: dict[str, AppRoutes | None] = {}
        self._lock = threading.Lock()

    def publish(self, app: str, routes: AppRoutes | None) -> None:
        """Make *routes* the app's entry, with what its partners wish for. Raises Retry while one is not as far."""
        partners = sorted(set(self._moves_with(app)) - {app})
        if not partners:
            self._publisher.publish_many({app: routes})
            return
        with self._lock:
            self._wishes[app] = routes
            wishes = {a: self._wishes[a] for a in (app, *partners) if a in self._wishes}
            try:
                self._publisher.publish_many(wishes)
            except Refused as error:
                waiting = error
            else:
                for done in wishes:
                    del self._wishes[done]
                return
        for partner in partners:
            self._ring(partner)
        raise Retry(f"waits for {', '.join(partners)} to hand over a route: {waiting}")

    def begin(self, app: str) -> None:
        """Forget what the app wished for: a new pass begins, and what it saw then may be stopped by now."""
        with self._lock:
            self._wishes.pop(app, None)

    def routing(self, app: str) -> Routing:
        """Return what is published, confirmed and drained for the app."""
        return self._publisher.routing(app)

    def apps(self) -> Collection[str]:
        """Return the names in the published table."""
        return self._publisher.apps()
