"""What people asked for and what became of it, under change numbers that only grow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import select, update

from controller.clock import Clock, Instant
from controller.plan.situation import Answer, Order
from controller.store.codec import decode, encode
from controller.store.counters import Counters
from controller.store.schema import OrderRow
from controller.store.statements import add_row
from controller.store.thread import StoreThread, Transaction


@dataclass(frozen=True, slots=True)
class Asked:
    """An order and what became of it; None while it is open."""

    order: Order
    answer: Answer | None


class Orders:
    """The book of orders."""

    def __init__(self, thread: StoreThread, counters: Counters, clock: Clock) -> None:
        self._thread = thread
        self._counters = counters
        self._clock = clock

    def next_change(self) -> int:
        """Return a new change number, greater than all before it."""
        return self._thread.call(lambda tx: self._counters.next(tx, "change"))

    def insert(self, tx: Transaction, order: Order) -> Order:
        """Write a new order under the next change number and return it."""
        at = order.at or self._clock.now()
        numbered = replace(order, id=self._counters.next(tx, "change"), at=at)
        values = {"id": numbered.id, "app": numbered.app, "at": at.wall, "document": encode(numbered)}
        tx.connection.execute(add_row(OrderRow), {**values, "answer": None, "answered": None})
        return numbered

    def settle(self, tx: Transaction, answer: Answer, now: Instant) -> None:
        """Write what became of an open order; one that was answered before keeps its first answer."""
        open_one = update(OrderRow).where(OrderRow.id == answer.order, OrderRow.answer.is_(None))
        tx.connection.execute(open_one.values(answer=encode(answer), answered=now.wall))

    def answer(self, order: int) -> Answer | None:
        """Return what became of an order; None while it is open, and for one that is not known."""
        query = select(OrderRow.answer).where(OrderRow.id == order)
        text = self._thread.call(lambda tx: tx.connection.scalar(query))
        return None if text is None else decode(Answer, text)

    def list(self, app: str, last: int = 20) -> tuple[Asked, ...]:
        """Return the app's newest orders with their answers, newest first."""
        query = select(OrderRow.document, OrderRow.answer).where(OrderRow.app == app)
        rows = self._thread.call(lambda tx: tx.connection.execute(query.order_by(OrderRow.id.desc()).limit(last)).all())
        return tuple(Asked(decode(Order, text), decode(Answer, answer) if answer else None) for text, answer in rows)


def load_open(tx: Transaction) -> Mapping[str, tuple[Order, ...]]:
    """Return the open orders of every app that has any, oldest first."""
    found: dict[str, tuple[Order, ...]] = {}
    query = select(OrderRow.app, OrderRow.document).where(OrderRow.answer.is_(None)).order_by(OrderRow.id)
    for app, text in tx.connection.execute(query):
        found[app] = (*found.get(app, ()), decode(Order, text))
    return found
