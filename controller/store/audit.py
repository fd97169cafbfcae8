"""Who changed what, or tried to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select

from controller.clock import Instant
from controller.store.codec import clean_text
from controller.store.schema import AuditRow
from controller.store.statements import add_row
from controller.store.thread import StoreThread, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the audit log."""

    id: int
    at: float
    """Wall seconds."""
    by: str
    verb: str
    app: str
    """"" where it concerns the whole service."""
    outcome: str
    detail: str = ""


class Audit:
    """The audit log."""

    def __init__(self, thread: StoreThread) -> None:
        self._thread = thread

    def add(self, *, by: str, verb: str, app: str, at: Instant, outcome: str, detail: str = "") -> None:
        """Write one line; it is on the disk when this returns."""
        values = {
            "at": at.wall,
            "who": clean_text(by),
            "verb": verb,
            "app": app,
            "outcome": clean_text(outcome),
            "detail": clean_text(detail),
        }
        self._thread.call(lambda tx: _insert(tx, values))

    def list(
        self, *, apps: Collection[str] | None = None, before_id: int | None = None, limit: int = 100
    ) -> tuple[Entry, ...]:
        """Return the newest lines, newest first; of these apps or all, older than *before_id* if given."""
        row = AuditRow
        query = select(row.id, row.at, row.who, row.verb, row.app, row.outcome, row.detail)
        query = query.order_by(row.id.desc()).limit(limit)
        if apps is not None:
            query = query.where(row.app.in_(sorted(apps)))
        if before_id is not None:
            query = query.where(row.id < before_id)
        rows = self._thread.call(lambda tx: tx.connection.execute(query).all())
        return tuple(
            Entry(id=id_, at=at, by=who, verb=verb, app=app, outcome=outcome, detail=detail)
            for id_, at, who, verb, app, outcome, detail in rows
        )


def _insert(tx: Transaction, values: dict[str, object]) -> None:
    tx.connection.execute(add_row(AuditRow), values)
