"""
What goes once it is old, a bounded piece at a time, so that no transaction keeps others waiting.

Of an app stay its last fifty releases, those that its memory names and those that rollbacks go to, with their steps;
its memory stays for ever, since the release counter outlives the app.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Delete, Select, delete, func, select

from controller.clock import Clock
from controller.store.history import History
from controller.store.meters import prune_meters
from controller.store.releases import KEEP, keep_releases, load_releases
from controller.store.schema import AuditRow, EventRow, OrderRow, ReleaseRow, RoutesRow, StepRow
from controller.store.thread import StoreThread, Transaction

DAY_S = 86400.0
EVENTS_S = 30 * DAY_S
EVENTS = 100_000
AUDIT_S = 365 * DAY_S
AUDIT = 100_000
ORDERS_S = 30 * DAY_S
"""How long answered orders stay."""
STEPS = 2_000
"""Steps per app."""
ROUTES = 50
"""Published entries of the table per app."""
PIECE = 2_000
"""Rows that one transaction deletes at most."""


class Retention:
    """Removes what is old."""

    def __init__(self, thread: StoreThread, history: History, clock: Clock) -> None:
        self._thread = thread
        self._history = history
        self._clock = clock

    def prune(self) -> int:
        """Remove what is older or more than is kept; return how many rows went. Cheap when there is nothing."""
        now = self._clock.now().wall
        answered = select(OrderRow.id).where(OrderRow.answer.is_not(None), OrderRow.answered < now - ORDERS_S)
        gone = self._thread.call(lambda tx: prune_meters(tx, now))
        gone += self._repeat(lambda: delete(EventRow).where(EventRow.id.in_(_old(EventRow, now - EVENTS_S))))
        gone += self._repeat(lambda: delete(EventRow).where(EventRow.id.in_(_surplus(EventRow, EVENTS))))
        gone += self._repeat(lambda: delete(AuditRow).where(AuditRow.id.in_(_old(AuditRow, now - AUDIT_S))))
        gone += self._repeat(lambda: delete(AuditRow).where(AuditRow.id.in_(_surplus(AuditRow, AUDIT))))
        gone += self._repeat(lambda: delete(OrderRow).where(OrderRow.id.in_(answered.limit(PIECE))))
        gone += self._per_app(StepRow, STEPS) + self._per_app(RoutesRow, ROUTES)
        return gone + sum(self._prune_releases(app) for app in self._crowded(ReleaseRow, KEEP))

    def _repeat(self, statement: Callable[[], Delete]) -> int:
        """Run a bounded *statement* until it finds nothing more, each time in a transaction of its own."""
        gone = 0
        while True:
            last = self._thread.call(lambda tx: tx.connection.execute(statement()).rowcount)
            gone += last
            if last < PIECE:
                return gone

    def _per_app(self, rows: type[StepRow] | type[RoutesRow], limit: int) -> int:
        gone = 0
        for app in self._crowded(rows, limit):
            too_many = select(rows.id).where(rows.app == app).order_by(rows.id.desc()).limit(PIECE).offset(limit)
            gone += self._repeat(lambda found=too_many: delete(rows).where(rows.id.in_(found)))  # type: ignore[misc]
        return gone

    def _crowded(self, rows: type[StepRow] | type[RoutesRow] | type[ReleaseRow], limit: int) -> tuple[str, ...]:
        query = select(rows.app).group_by(rows.app).having(func.count() > limit)
        return self._thread.call(lambda tx: tuple(tx.connection.scalars(query)))

    def _prune_releases(self, app: str) -> int:
        return self._thread.call(lambda tx: self._drop_releases(tx, app))

    def _drop_releases(self, tx: Transaction, app: str) -> int:
        # Asked in the same transaction: a rollback that was decided a moment ago may name an old one.
        releases = load_releases(tx, app)
        doomed = sorted(releases.keys() - keep_releases(releases, self._history.memory(app)).keys())
        tx.connection.execute(delete(StepRow).where(StepRow.app == app, StepRow.release.in_(doomed)))
        row = delete(ReleaseRow).where(ReleaseRow.app == app, ReleaseRow.number.in_(doomed))
        return tx.connection.execute(row).rowcount


def _old(rows: type[EventRow] | type[AuditRow], before: float) -> Select[int]:
    return select(rows.id).where(rows.at < before).limit(PIECE)


def _surplus(rows: type[EventRow] | type[AuditRow], limit: int) -> Select[int]:
    return select(rows.id).order_by(rows.id.desc()).limit(PIECE).offset(limit)
