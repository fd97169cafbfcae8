"""
What an app's passes remember, written before they act and after.

The thread is the only writer, so a picture of every app is kept in memory: reading one takes no query, and a
pass that changes nothing writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from sqlalchemy import select

from controller.clock import Instant
from controller.errors import Broken
from controller.plan.situation import Decision, Done, Memory, Note, Order, Release
from controller.store.codec import decode, encode
from controller.store.events import Events
from controller.store.orders import Orders, load_open
from controller.store.releases import keep_releases, load_releases, save_release
from controller.store.schema import AppRow
from controller.store.statements import put_row
from controller.store.steps import Step, plan_steps, save_done, save_planned
from controller.store.telling import tell_order, tell_release, tell_step
from controller.store.thread import StoreThread, Transaction

NOTHING: Mapping[int, Release] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The picture of one app; replaced whole by the store's thread, read by all."""

    memory: Memory = field(default_factory=Memory)
    notes: tuple[Note, ...] = ()
    orders: tuple[Order, ...] = ()
    """Open ones, oldest first."""
    releases: Mapping[int, Release] | None = NOTHING
    """None: stored, but not read yet."""
    steps: tuple[Step, ...] = ()
    """Of the last decision that had any."""
    stored: bool = False


class History:
    """Memory, releases, steps and open orders of all apps."""

    def __init__(self, thread: StoreThread, orders: Orders, events: Events) -> None:
        self._thread = thread
        self._orders = orders
        self._events = events
        self._apps: dict[str, Kept] = {}
        thread.on_open(self._read_all)

    def load(self, app: str) -> tuple[Memory, Mapping[int, Release], tuple[Order, ...]]:
        """Return memory, known releases and open orders of the app (empty ones if unknown)."""
        kept = self._warm(app)
        return kept.memory, kept.releases or NOTHING, kept.orders

    def apps(self) -> Collection[str]:
        """Return every app that is not removed, and those with an open order."""
        return tuple(sorted(app for app, kept in self._apps.copy().items() if kept.orders or _stands(kept)))

    def all_apps(self) -> Collection[str]:
        """Return every app that was ever seen, removed ones too."""
        return tuple(sorted(app for app, kept in self._apps.copy().items() if kept.stored))

    def memory(self, app: str) -> Memory:
        """Return what the app's passes remember."""
        return self._kept(app).memory

    def intend(self, app: str, decision: Decision, now: Instant) -> None:
        """Write what a pass decided, whole or not at all and before it acts; nothing if nothing changed."""
        kept = self._warm(app)
        if not decision.operations and _changes_nothing(kept, decision):
            return
        self._thread.call(lambda tx: self._intend(tx, app, decision, now))

    def conclude(self, app: str, memory: Memory, done: tuple[Done, ...], now: Instant) -> None:
        """Write how the operations ended and the memory settled with it; nothing if there is nothing."""
        if not done and memory == self._kept(app).memory:
            return
        self._warm(app)
        self._thread.call(lambda tx: self._conclude(tx, app, memory, done, now))

    def order(self, order: Order) -> Order:
        """Store a new order under the next change number and return it."""
        return self._thread.call(lambda tx: self._order(tx, order))

    def _kept(self, app: str) -> Kept:
        return self._apps.get(app) or Kept()

    def _warm(self, app: str) -> Kept:
        kept = self._kept(app)
        if kept.releases is None:
            self._thread.call(lambda tx: self._read_releases(tx, app))
            kept = self._kept(app)
        return kept

    def _read_all(self, tx: Transaction) -> None:
        orders = load_open(tx)
        apps = {app: Kept(orders=found) for app, found in orders.items()}
        for name, document, notes in tx.connection.execute(select(AppRow.name, AppRow.document, AppRow.notes)):
            try:
                memory, last = decode(Memory, document), decode(_Notes, notes)
            except Broken as error:
                raise Broken(f"app {name}: {error}") from error
            found = orders.get(name, ())
            apps[name] = Kept(memory=memory, notes=last.notes, orders=found, releases=None, stored=True)
        tx.afterwards(lambda: self._replace_all(apps))

    def _replace_all(self, apps: dict[str, Kept]) -> None:
        self._apps = apps

    def _read_releases(self, tx: Transaction, app: str) -> Kept:
        kept = self._kept(app)
        if kept.releases is None:
            releases = keep_releases(load_releases(tx, app), kept.memory)
            kept = replace(kept, releases=MappingProxyType(releases))
            self._apps[app] = kept
        return kept

    def _intend(self, tx: Transaction, app: str, decision: Decision, now: Instant) -> None:
        kept = self._read_releases(tx, app)
        self._save_app(tx, app, kept, decision.memory, decision.notes)
        releases = dict(kept.releases or {})
        for release in decision.releases:
            if releases.get(release.number) != release:
                save_release(tx, app, release)
                tell_release(self._events, tx, app, releases.get(release.number), release, now.wall)
                releases[release.number] = release
        for answer in decision.answers:
            self._orders.settle(tx, answer, now)
        answered = {answer.order for answer in decision.answers}
        if decision.notes != kept.notes:
            for note in decision.notes:
                self._events.write(tx, now.wall, app, "note", note.level, note.text)
        planned = plan_steps(app, decision.memory, decision.operations, now.wall)
        after = Kept(
            memory=decision.memory,
            notes=decision.notes,
            orders=tuple(order for order in kept.orders if order.id not in answered),
            releases=MappingProxyType(keep_releases(releases, decision.memory)),
            steps=save_planned(tx, planned, kept.steps) if planned else kept.steps,
            stored=True,
        )
        tx.afterwards(lambda: self._apps.__setitem__(app, after))

    def _conclude(self, tx: Transaction, app: str, memory: Memory, done: tuple[Done, ...], now: Instant) -> None:
        kept = self._read_releases(tx, app)
        self._save_app(tx, app, kept, memory, kept.notes)
        planned = plan_steps(app, memory, [one.operation for one in done], now.wall)
        steps = kept.steps
        if [step.text for step in steps] != [step.text for step in planned]:
            # The file was opened anew in between, and the plan's rows read `interrupted`: written again, whole.
            steps = save_planned(tx, planned, ())
        ended = tuple(
            save_done(tx, step, replace(one, text=self._events.mask(app, one.text)))
            for step, one in zip(steps, done, strict=True)
        )
        for before, step in zip(steps, ended, strict=True):
            tell_step(self._events, tx, before, step, now.wall)
        after = replace(kept, memory=memory, steps=ended or kept.steps, stored=True)
        tx.afterwards(lambda: self._apps.__setitem__(app, after))

    def _order(self, tx: Transaction, order: Order) -> Order:
        numbered = self._orders.insert(tx, order)
        kept = self._kept(order.app)
        after = replace(kept, orders=(*kept.orders, numbered))
        tell_order(self._events, tx, numbered)
        tx.afterwards(lambda: self._apps.__setitem__(order.app, after))
        return numbered

    def _save_app(self, tx: Transaction, app: str, kept: Kept, memory: Memory, notes: tuple[Note, ...]) -> None:
        if kept.stored and memory == kept.memory and notes == kept.notes:
            return
        values = {"name": app, "document": encode(memory), "notes": encode(_Notes(notes))}
        tx.connection.execute(put_row(AppRow), values)


def _stands(kept: Kept) -> bool:
    return kept.stored and not kept.memory.removed


def _changes_nothing(kept: Kept, decision: Decision) -> bool:
    """Say whether *decision* would leave the app's rows as they are."""
    releases = kept.releases or NOTHING
    still_open = {order.id for order in kept.orders}
    return (
        decision.notes == kept.notes
        and decision.memory == kept.memory
        and all(releases.get(release.number) == release for release in decision.releases)
        and not any(answer.order in still_open for answer in decision.answers)
    )


@dataclass(frozen=True, slots=True)
class _Notes:
    notes: tuple[Note, ...] = ()
