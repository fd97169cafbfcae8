"""Everything that is kept, behind one door."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from controller.clock import Clock, Instant
from controller.plan.situation import Answer, Decision, Done, Memory, Order, Release, Standing
from controller.store.audit import Audit
from controller.store.backup import Checked, save_backup
from controller.store.counters import Counters
from controller.store.events import LIMIT, Event, Events, Level
from controller.store.fixed import FixedRoutes
from controller.store.history import History
from controller.store.meters import Meters
from controller.store.numbers import FILE as NUMBERS
from controller.store.numbers import Numbers
from controller.store.orders import Asked, Orders
from controller.store.retention import Retention
from controller.store.secrets import Secrets
from controller.store.standings import Standings
from controller.store.steps import Published, Step, Steps
from controller.store.thread import StoreThread
from controller.store.tokens import Tokens

KEY_FILE = "secrets.key"
"""The file in the state directory that holds the keys of the secrets."""


class Store:
    """The database of one service; implements `ports.History`.

    Safe to call from any thread once `run` has opened the file. Every call ends within ten seconds and raises
    nothing but the four errors: Retry while the disk is full or busy, Refused for a damaged file, Broken once
    the thread has died.
    """

    secrets: Secrets
    tokens: Tokens
    fixed_routes: FixedRoutes
    meters: Meters
    audit: Audit

    def __init__(self, path: Path, clock: Clock, *, state: Path | None = None) -> None:
        self._thread = StoreThread(path)
        self._counters = Counters(self._thread, clock, Numbers((state or path.parent) / NUMBERS))
        self.secrets = Secrets(self._thread, self._counters, clock, (state or path.parent) / KEY_FILE)
        self.tokens = Tokens(self._thread, clock)
        self.fixed_routes = FixedRoutes(self._thread)
        self.meters = Meters(self._thread)
        self.audit = Audit(self._thread)
        self._events = Events(self._thread, self._counters, clock, self.secrets.mask)
        self._orders = Orders(self._thread, self._counters, clock)
        self._steps = Steps(self._thread)
        self._history = History(self._thread, self._orders, self._events)
        self._standings = Standings(self._thread)
        self._retention = Retention(self._thread, self._history, clock)

    def run(self, stop: threading.Event) -> None:
        """Open and migrate the file, serve until *stop* is set; the body of the store's thread."""
        self._thread.run(stop)

    def wait_open(self, timeout_s: float = 60.0) -> None:
        """Return once the file is open; raise Refused with one line for a person if it cannot be."""
        self._thread.wait_open(timeout_s)

    def load(self, app: str) -> tuple[Memory, Mapping[int, Release], tuple[Order, ...]]:
        """Return memory, known releases and open orders of the app (empty ones if unknown)."""
        return self._history.load(app)

    def apps(self) -> Collection[str]:
        """Return every app that is not removed, and those with an open order."""
        return self._history.apps()

    def all_apps(self) -> Collection[str]:
        """Return every app that was ever seen, removed ones too."""
        return self._history.all_apps()

    def intend(self, app: str, decision: Decision, now: Instant) -> None:
        """Write what a pass decided, before it acts; nothing if nothing changed."""
        self._history.intend(app, decision, now)

    def conclude(self, app: str, memory: Memory, done: tuple[Done, ...], now: Instant) -> None:
        """Write how the operations ended and the memory settled with it."""
        self._history.conclude(app, memory, done, now)

    def order(self, order: Order) -> Order:
        """Store a new order under the next change number and return it."""
        return self._history.order(order)

    def next_change(self) -> int:
        """Return a new change number, greater than all before it, also across restarts."""
        return self._orders.next_change()

    def answer(self, order: int) -> Answer | None:
        """Return what became of an order."""
        return self._orders.answer(order)

    def answers(self, app: str, last: int = 20) -> tuple[Asked, ...]:
        """Return the app's newest orders with their answers, newest first."""
        return self._orders.list(app, last)

    def save_standing(self, standing: Standing, change: int) -> None:
        """Keep how an app stands in the watched directory; the same standing again writes nothing."""
        self._standings.save(standing, change)

    def load_standings(self) -> Mapping[str, Standing]:
        """Return what `save_standing` kept."""
        return self._standings.load()

    def drop_standing(self, app: str) -> None:
        """Forget how a removed app stood."""
        self._standings.drop(app)

    def releases(self, app: str) -> tuple[Release, ...]:
        """Return the app's releases, newest first."""
        _, releases, _ = self._history.load(app)
        return tuple(releases[number] for number in sorted(releases, reverse=True))

    def release(self, app: str, number: int) -> Release | None:
        """Return one release, or None."""
        return self._history.load(app)[1].get(number)

    def steps(self, app: str, release: int | None = None, limit: int = 1000) -> tuple[Step, ...]:
        """Return what was decided and done for the app (in one release's rollout, or ever), oldest first."""
        return self._steps.list(app, release, limit)

    def published(self, app: str, limit: int = 50) -> tuple[Published, ...]:
        """Return the app's entries of the route table that were handed out, newest first."""
        return self._steps.published(app, limit)

    def add_event(
        self, app: str, kind: str, level: Level, text: str, data: Mapping[str, object] | None = None
    ) -> Event:
        """Store one event and return it."""
        return self._events.add(app, kind, level, text, data)

    def events(self, after_id: int = 0, app: str | None = None, limit: int = LIMIT) -> tuple[Event, ...]:
        """Return the events after *after_id*, oldest first; of one app, or of all."""
        return self._events.after(after_id, app, limit)

    def recent_events(self, apps: Collection[str] | None = None, limit: int = 100) -> tuple[Event, ...]:
        """Return the newest events, oldest first; of these apps, or of all and of the service itself."""
        return self._events.recent(apps, limit)

    def last_event_id(self) -> int:
        """Return the number of the newest event."""
        return self._events.last_id()

    def on_event(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call *listener* with every new event once it is stored, from the store's thread; returns its undoing."""
        return self._events.listen(listener)

    def add_audit(self, *, by: str, verb: str, app: str, at: Instant, outcome: str, detail: str = "") -> None:
        """Write down who changed what, or tried to."""
        self.audit.add(by=by, verb=verb, app=app, at=at, outcome=outcome, detail=detail)

    def backup(self, file: Path) -> Checked:
        """Write a consistent copy of the database to *file*, without the key file of the secrets."""
        return save_backup(self._thread, file)

    def prune(self) -> int:
        """Remove what is older or more than is kept; return how many rows went. To be called once an hour."""
        return self._retention.prune()

    def check_writable(self) -> None:
        """Return if the database can be written now; raise why not."""
        self._counters.touch()
