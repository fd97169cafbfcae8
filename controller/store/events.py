"""What the controller saw, decided and did, one numbered line each; the numbers only grow."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

import structlog
from sqlalchemy import Select, func, select

from controller.clock import Clock
from controller.store.codec import clean_text, dump
from controller.store.counters import Counters
from controller.store.schema import EventRow
from controller.store.statements import add_row
from controller.store.thread import StoreThread, Transaction

Level = Literal["info", "warning", "error"]
Mask = Callable[[str, str], str]
"""Takes an app and a text, returns the text without the app's secrets."""
_log = structlog.get_logger("store")
LIMIT = 1000
"""The most that one question is answered with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the event log."""

    id: int
    at: float
    """Wall seconds."""
    app: str
    """"" where it concerns the whole service."""
    kind: str
    """note, step, release, order, or what other rooms add."""
    level: Level = "info"
    text: str = ""
    data: Mapping[str, object] = field(default_factory=dict)


class Events:
    """The event log."""

    def __init__(self, thread: StoreThread, counters: Counters, clock: Clock, mask: Mask) -> None:
        self._thread = thread
        self._counters = counters
        self._clock = clock
        self.mask = mask
        self._listeners: tuple[Callable[[Event], None], ...] = ()

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call *listener* with every new event once it is stored, in order, from the store's thread.

        It must return at once; one that raises is not called again. What is returned takes it off.
        """
        self._listeners = (*self._listeners, listener)
        return lambda: self._forget(listener)

    def add(self, app: str, kind: str, level: Level, text: str, data: Mapping[str, object] | None = None) -> Event:
        """Store one event and return it."""
        at = self._clock.now().wall
        return self._thread.call(lambda tx: self.write(tx, at, app, kind, level, text, data))

    def write(
        self,
        tx: Transaction,
        at: float,
        app: str,
        kind: str,
        level: Level,
        text: str,
        data: Mapping[str, object] | None = None,
    ) -> Event:
        """Store one event as part of *tx*."""
        event = Event(
            id=self._counters.next(tx, "event"),
            at=at,
            app=app,
            kind=kind,
            level=level,
            text=self.mask(app, clean_text(text)),
            data=dict(data or {}),
        )
        values = {"id": event.id, "at": at, "app": app, "kind": kind, "level": level}
        tx.connection.execute(add_row(EventRow), {**values, "line": event.text, "data": dump(event.data)})
        tx.tell(lambda: self._tell(event))
        return event

    def after(self, after_id: int = 0, app: str | None = None, limit: int = LIMIT) -> tuple[Event, ...]:
        """Return the events after *after_id*, oldest first; of one app, or of all."""
        query = _columns().where(EventRow.id > after_id).order_by(EventRow.id)
        if app is not None:
            query = query.where(EventRow.app == app)
        return self._rows(query.limit(min(limit, LIMIT)))

    def recent(self, apps: Collection[str] | None = None, limit: int = 100) -> tuple[Event, ...]:
        """Return the newest events, oldest first; of these apps, or of all and of the service itself."""
        query = _columns().order_by(EventRow.id.desc()).limit(min(limit, LIMIT))
        if apps is not None:
            query = query.where(EventRow.app.in_(sorted(apps)))
        return self._rows(query)[::-1]

    def last_id(self) -> int:
        """Return the number of the newest event; 0 where there never was one."""
        return self._thread.call(lambda tx: tx.connection.scalar(select(func.max(EventRow.id))) or 0)

    def _rows(self, query: Select[int, float, str, str, str, str, str]) -> tuple[Event, ...]:
        return self._thread.call(lambda tx: tuple(_event(*row) for row in tx.connection.execute(query)))

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            # It is stored already; a listener's fault must not read as if it were not.
            except Exception:  # noqa: BLE001
                _log.exception("a listener to events failed and will not be called again")
                self._forget(listener)

    def _forget(self, listener: Callable[[Event], None]) -> None:
        self._listeners = tuple(one for one in self._listeners if one is not listener)


def _columns() -> Select[int, float, str, str, str, str, str]:
    row = EventRow
    return select(row.id, row.at, row.app, row.kind, row.level, row.line, row.data)


def _event(id_: int, at: float, app: str, kind: str, level: str, text: str, data: str) -> Event:
    return Event(id=id_, at=at, app=app, kind=kind, level=cast(Level, level), text=text, data=json.loads(data))
