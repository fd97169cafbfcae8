"""What was counted, minute by minute for a day and hour by hour for a month."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import delete, func, literal, select
from sqlalchemy.dialects.sqlite import Insert, insert

from controller.store.schema import MeterRow
from controller.store.thread import StoreThread, Transaction

MINUTE_S = 60
HOUR_S = 3600
FINE_S = 24 * HOUR_S
"""How long minutes are kept before they become hours."""
COARSE_S = 30 * 24 * HOUR_S


@dataclass(frozen=True, slots=True)
class Count:
    """One thing counted since the last time it was handed in: `requests`, `errors`, `bytes_out` …"""

    app: str
    name: str
    value: float
    release: int = 0


@dataclass(frozen=True, slots=True)
class Bucket:
    """What was counted in the *span_s* seconds from *start* (wall seconds)."""

    app: str
    name: str
    release: int
    start: int
    span_s: int
    value: float


class Meters:
    """The counts of all apps over time."""

    def __init__(self, thread: StoreThread) -> None:
        self._thread = thread

    def add(self, counts: Iterable[Count], at: float) -> None:
        """Add *counts* to the minute of *at* (wall seconds), in one transaction; zeros write nothing."""
        start = int(at) // MINUTE_S * MINUTE_S
        rows = [
            {"app": one.app, "name": one.name, "release": one.release, "value": one.value}
            for one in counts
            if one.value
        ]
        if rows:
            self._thread.call(lambda tx: _add(tx, [{**row, "span_s": MINUTE_S, "start": start} for row in rows]))

    def read(
        self, app: str, *, since: float, until: float, name: str | None = None, release: int | None = None
    ) -> tuple[Bucket, ...]:
        """Return the app's buckets that begin in [since, until), oldest first."""
        row = MeterRow
        query = select(row.app, row.name, row.release, row.start, row.span_s, row.value)
        query = query.where(row.app == app, row.start >= since, row.start < until)
        if name is not None:
            query = query.where(row.name == name)
        if release is not None:
            query = query.where(row.release == release)
        query = query.order_by(row.start, row.name, row.release)
        return self._thread.call(lambda tx: tuple(Bucket(*found) for found in tx.connection.execute(query)))


def prune_meters(tx: Transaction, now: float) -> int:
    """Fold minutes older than a day into hours and drop hours older than a month; return how many rows went."""
    fine = int(now - FINE_S) // HOUR_S * HOUR_S
    row = MeterRow
    hour = row.start - row.start % HOUR_S
    hours = (
        select(row.app, row.name, row.release, literal(HOUR_S), hour, func.sum(row.value))
        .where(row.span_s == MINUTE_S, row.start < fine)
        .group_by(row.app, row.name, row.release, hour)
    )
    folded = insert(row).from_select(["app", "name", "release", "span_s", "start", "value"], hours)
    tx.connection.execute(_summed(folded))
    gone = tx.connection.execute(delete(row).where(row.span_s == MINUTE_S, row.start < fine)).rowcount
    old = delete(row).where(row.span_s == HOUR_S, row.start < int(now - COARSE_S))
    return gone + tx.connection.execute(old).rowcount


def _add(tx: Transaction, rows: list[dict[str, object]]) -> None:
    tx.connection.execute(_summed(insert(MeterRow)), rows)


def _summed(statement: Insert) -> Insert:
    """Have *statement* add to a bucket that is there already."""
    return statement.on_conflict_do_update(
        index_elements=["app", "name", "release", "span_s", "start"],
        set_={"value": MeterRow.value + statement.excluded.value},
    )
