"""
Numbers that only grow, also across restarts, lost databases and restored copies.

Each number that is given out is also noted in a file of the state directory. Whenever the database is opened,
counting goes on from the higher of both, so that a new or an older one gives no number out again.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import select

from controller.clock import Clock
from controller.store.numbers import Numbers
from controller.store.schema import CounterRow
from controller.store.statements import put_row
from controller.store.thread import StoreThread, Transaction

Name = Literal["change", "event"]
TOUCH_S = 5.0


class Counters:
    """The counters, kept in memory by the store's thread and written with the transaction that takes a number."""

    def __init__(self, thread: StoreThread, clock: Clock, numbers: Numbers) -> None:
        self._thread = thread
        self._clock = clock
        self._numbers = numbers
        self._touches = 0
        self._touched = -TOUCH_S
        self._values: dict[str, int] = {}
        thread.on_open(self._load)

    def next(self, tx: Transaction, name: Name) -> int:
        """Return a number greater than all before it. One taken by a transaction that fails is left out."""
        value = self._values.get(name, 0) + 1
        self._values[name] = value
        self._numbers.write(self._values)
        tx.connection.execute(put_row(CounterRow), {"name": name, "value": value})
        return value

    def touch(self) -> None:
        """Write something, so that whoever asks knows that it can be done; at most once in five seconds."""
        now = self._clock.now().steady
        if not 0 <= now - self._touched < TOUCH_S:
            self._thread.call(lambda tx: self._touch(tx, now))

    def _touch(self, tx: Transaction, now: float) -> None:
        value = self._touches = self._touches + 1
        tx.connection.execute(put_row(CounterRow), {"name": "touch", "value": value})
        tx.afterwards(lambda: setattr(self, "_touched", now))

    def _load(self, tx: Transaction) -> None:
        stored = {row.name: row.value for row in tx.connection.execute(select(CounterRow.name, CounterRow.value))}
        noted = self._numbers.read()
        for name in ("change", "event"):
            highest = max(stored.get(name, 0) + noted.get("gap", 0), noted.get(name, 0))
            self._values[name] = max(highest, self._values.get(name, 0))
        self._numbers.write(self._values)
