"""A store on a file of the test's own, with its thread, and values to put into it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controller.clock import Instant
from controller.plan.operations import Operation, StartReplica
from controller.plan.situation import Decision, Memory, Note, Order, Release, Rollout
from controller.store import Store, thread
from controller.store.thread import Transaction
from tests.builders import a_spec, at

# The store's thread looks for its end so often; a hundred tests would wait for it for half a minute.
thread.LOOK_S = 0.02


class MovedClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = at()

    def now(self) -> Instant:
        return self.moment

    def move(self, seconds: float) -> None:
        self.moment = self.moment.later(seconds)


class Running:
    """A store whose thread runs; `trouble` is what ended the thread early."""

    def __init__(self, path: Path, clock: MovedClock) -> None:
        self.path = path
        self.clock = clock
        self.store = Store(path, clock)
        self.stop = threading.Event()
        self.trouble: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, name="store", daemon=True)

    def _run(self) -> None:
        try:
            self.store.run(self.stop)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.trouble.append(error)

    def end(self) -> None:
        self.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


@contextmanager
def running(path: Path, clock: MovedClock | None = None) -> Iterator[Store]:
    """Run a store on *path* for as long as the block lasts."""
    one = Running(path, clock or MovedClock())
    one.thread.start()
    try:
        one.store.wait_open(20)
        yield one.store
    finally:
        one.end()


def writes(store: Store) -> int:
    """Return how many rows the connection has changed so far."""
    return store._thread.call(lambda tx: tx.connection.exec_driver_sql("SELECT total_changes()").scalar_one())


def sql(store: Store, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Ask the store's own connection; it is the only one that may."""

    def ask(tx: Transaction) -> list[tuple[Any, ...]]:
        found = tx.connection.exec_driver_sql(statement, tuple(parameters))
        return [tuple(row) for row in found] if found.returns_rows else []

    return store._thread.call(ask)


def a_release(number: int = 1, **fields: Any) -> Release:
    base = {"spec": a_spec(), "digest": f"digest-{number}", "reason": "spec changed", "by": "ann", "started": at()}
    return Release(number=number, **{**base, **fields})


def a_memory(release: int = 1, **fields: Any) -> Memory:
    return Memory(**{"last_release": release, "rollout": Rollout(release=release, started=at()), **fields})


def a_start(release: int = 1, index: int = 1) -> StartReplica:
    return StartReplica(release, index, "image changed: 1.4 -> 1.5")


def a_decision(*operations: Operation, **fields: Any) -> Decision:
    base: dict[str, Any] = {"memory": a_memory(), "releases": (a_release(),), "notes": (Note("new spec"),)}
    return Decision(operations=operations, **{**base, **fields})


def an_order(verb: Any = "apply", **fields: Any) -> Order:
    return Order(**{"id": 0, "app": "shop", "verb": verb, "by": "ann", "at": at(), **fields})
