"""
What the service shows of itself: read-only views, worked out from the latest situation of each app.

Knows situations, releases and the table as values; knows nothing of the engine, the store or HTTP and asks none of
them, so that a list of a hundred apps costs a look at memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from controller.plan.situation import Answer, Decision, Situation
from controller.queries.routes import BadTarget, explain_url, render_routes
from controller.queries.seen import Row, Seen, is_removed
from controller.queries.status import OrderLine, render_app, render_release, render_row, render_standing, render_step

KEPT_ORDERS = 20
"""Answers that the read model keeps for each app; older ones are in the store."""


class ReadModel:
    """The latest view of every app; written by the loop after each pass, read by the doors."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, Seen] = {}
        self._orders: dict[str, deque[OrderLine]] = {}
        self.remark: Callable[[str], str] = lambda _app: ""
        """What other rooms want a person to know of an app that has nothing to say itself."""
        self.fault: Callable[[str], str] = lambda _app: ""
        """Why the proxy does not serve an app as it should; it goes before all else that there is to say."""

    def put(self, app: str, situation: Situation, decision: Decision) -> None:
        """Take over what a pass saw and decided."""
        releases = dict(situation.releases) | {release.number: release for release in decision.releases}
        seen = Seen(situation=situation, memory=decision.memory, releases=releases)
        lines = answer_lines(situation, decision.answers)
        with self._lock:
            self._seen[app] = seen
            if lines:
                self._orders.setdefault(app, deque(maxlen=KEPT_ORDERS)).extend(lines)

    def drop(self, app: str) -> None:
        """Forget the app's situation: it is removed. Its answered orders stay readable."""
        with self._lock:
            self._seen.pop(app, None)

    def apps(self) -> tuple[str, ...]:
        """Return the names of all apps that are there, sorted."""
        with self._lock:
            return tuple(sorted(name for name, seen in self._seen.items() if not is_removed(seen)))

    def seen(self, app: str) -> Seen | None:
        """Return what the last pass saw of the app; None where it is unknown or removed."""
        with self._lock:
            seen = self._seen.get(app)
        return None if seen is None or is_removed(seen) else seen

    def latest(self, app: str) -> Situation | None:
        """Return the app's last situation as the next pass would see it: with what the last one decided."""
        seen = self.seen(app)
        if seen is None:
            return None
        return replace(seen.situation, memory=seen.memory, releases=seen.releases, orders=())

    def orders(self, app: str) -> tuple[OrderLine, ...]:
        """Return the last answered orders of the app, oldest first."""
        with self._lock:
            return tuple(self._orders.get(app, ()))

    def rows(self) -> list[Row]:
        """Return one status row for each app, by name."""
        return [self._remark(render_row(seen)) for app in self.apps() if (seen := self.seen(app)) is not None]

    def app(self, app: str) -> Row | None:
        """Return the full view of one app; None where there is none."""
        seen = self.seen(app)
        return None if seen is None else self._remark(render_app(seen, self.orders(app)))

    def _remark(self, row: Row) -> Row:
        app = str(row["app"])
        return row | {"message": self.fault(app) or row["message"] or self.remark(app)}

    def routes(self) -> list[Row]:
        """Return one row for each rule of the table."""
        views = [seen for app in self.apps() if (seen := self.seen(app)) is not None]
        return [row for seen in views for row in render_routes(seen.routes)]


def answer_lines(situation: Situation, answers: Iterable[Answer]) -> list[OrderLine]:
    """Pair the answers of a pass with the orders that they answer."""
    verbs = {order.id: order.verb for order in situation.orders}
    return [
        OrderLine(
            change=answer.order,
            verb=verbs.get(answer.order, ""),
            result=answer.result,
            release=answer.release,
            text=answer.text,
        )
        for answer in answers
    ]


__all__ = [
    "BadTarget",
    "OrderLine",
    "ReadModel",
    "Row",
    "Seen",
    "explain_url",
    "render_release",
    "render_routes",
    "render_row",
    "render_standing",
    "render_step",
]
