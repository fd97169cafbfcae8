"""
The store's thread: it owns the connection and runs what others submit, one transaction each.

A job is a function of one transaction. It is committed, or nothing of it is; what it registered with
`afterwards` runs once the commit is on the disk, in order, before its caller goes on.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from controller.errors import Broken, ControllerError, Refused, Retry
from controller.store.connection import close_connection, leaves_doubt, open_connection, translate_error
from controller.store.migrate import migrate

DEADLINE_S = 8.0
"""The longest a caller waits; below the ten seconds that ports.py promises."""
LOOK_S = 0.3
"""How often an idle thread looks whether it shall stop."""

_log = structlog.get_logger("store")


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction under way; only ever touched by the store's thread."""

    connection: Connection
    acts: list[Callable[[], None]] = field(default_factory=list)
    news: list[Callable[[], None]] = field(default_factory=list)

    def afterwards(self, act: Callable[[], None]) -> None:
        """Run *act* once this transaction is on the disk; never if it fails. It must be quick and not raise."""
        self.acts.append(act)

    def tell(self, news: Callable[[], None]) -> None:
        """Run *news* after all that, so that whoever hears it finds what it speaks of."""
        self.news.append(news)

    def settle(self) -> None:
        """Run all that was registered; the transaction is on the disk."""
        for act in (*self.acts, *self.news):
            act()


class StoreThread:
    """Runs jobs on the only connection; safe to call from any thread but its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._jobs: queue.SimpleQueue[Callable[[ControllerError | None], None]] = queue.SimpleQueue()
        self._on_open: list[Callable[[Transaction], None]] = []
        self._opened: Future[None] = Future()
        self._gate = threading.Lock()
        self._ended: ControllerError | None = None
        self._connection: Connection | None = None
        self._file: tuple[int, int] = (0, 0)
        self._ident: int | None = None

    def on_open(self, load: Callable[[Transaction], None]) -> None:
        """Have *load* fill a room's picture in memory whenever the file is opened (anew)."""
        self._on_open.append(load)

    def run(self, stop: threading.Event) -> None:
        """
        Open the file, serve until *stop* is set, write what was asked before that, and close the file.

        What prevents the opening is a Refused from `wait_open` and from every call, not from here: whoever starts
        us tells it in one line. Anything else that ends the thread is raised.
        """
        self._ident = threading.get_ident()
        reason: ControllerError = Broken("the store's thread has died")
        try:
            if (refusal := self._try_open()) is None:
                self._serve(stop)
                reason = Retry("the store is closed")
            else:
                reason = refusal
        finally:
            self._end(reason)
        stop.wait()

    def wait_open(self, timeout_s: float = 60.0) -> None:
        """Return once the file is open and migrated; raise what prevented it."""
        try:
            self._opened.result(timeout_s)
        except Late:
            raise Retry(f"{self.path}: not open after {timeout_s:g} s") from None

    def call[T](self, job: Callable[[Transaction], T], deadline_s: float = DEADLINE_S) -> T:
        """Run *job* in one transaction and return its value; Retry when that takes longer than *deadline_s*."""
        return self._wait(self.submit(job), deadline_s)

    def call_between[T](self, job: Callable[[Connection], T], deadline_s: float = DEADLINE_S) -> T:
        """Run *job* while no transaction is open: SQLite copies a whole file only then."""
        return self._wait(self._queue(lambda: self._guard(job, self._current())), deadline_s)

    def submit[T](self, job: Callable[[Transaction], T]) -> Future[T]:
        """Queue *job*; the future fails with one of the four errors."""
        return self._queue(lambda: self._commit(job))

    def _queue[T](self, work: Callable[[], T]) -> Future[T]:
        result: Future[T] = Future()
        with self._gate:
            if self._ended is not None:
                raise type(self._ended)(*self._ended.args)
            self._jobs.put(lambda trouble: _perform(work, result, trouble))
        return result

    def _wait[T](self, result: Future[T], deadline_s: float) -> T:
        if threading.get_ident() == self._ident:
            raise Broken("the store's own thread must not wait for itself")
        try:
            return result.result(deadline_s)
        except Late:
            result.cancel()
            raise Retry(f"{self.path}: the database did not answer within {deadline_s:g} s") from None

    def _try_open(self) -> Refused | None:
        try:
            self._open()
        except Refused as error:
            return error
        except ControllerError as error:
            return Refused(f"DB_PATH: cannot be used now: {error}")
        self._settle(None)
        return None

    def _serve(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                perform = self._jobs.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            perform(None)

    def _commit[T](self, job: Callable[[Transaction], T]) -> T:
        transaction = Transaction(self._current())
        value = self._guard(lambda connection: _in_transaction(connection, job, transaction), transaction.connection)
        transaction.settle()
        return value

    def _guard[T](self, job: Callable[[Connection], T], connection: Connection) -> T:
        try:
            return job(connection)
        except (SQLAlchemyError, sqlite3.Error) as error:
            if leaves_doubt(error):
                self._drop()
            raise translate_error(error, self.path) from error

    def _current(self) -> Connection:
        connection = self._connection or self._open()
        self._check_file()
        return connection

    def _open(self) -> Connection:
        connection = open_connection(self.path)
        try:
            migrate(connection, self.path)
            transaction = Transaction(connection)
            with connection.begin():
                for load in self._on_open:
                    load(transaction)
        except (SQLAlchemyError, sqlite3.Error) as error:
            close_connection(connection)
            raise translate_error(error, self.path) from error
        except ControllerError:
            close_connection(connection)
            raise
        transaction.settle()
        self._file = _identity(self.path)
        self._connection = connection
        return connection

    def _check_file(self) -> None:
        # SQLite would go on writing into a file that has no name any more, and all of it would be lost.
        if _identity(self.path) != self._file:
            raise Retry(f"{self.path}: moved or replaced while in use; put it back, or restart the service")

    def _drop(self) -> None:
        """Give the connection up: after a failed write only a new one shows what is really on the disk."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                close_connection(connection)
            except (SQLAlchemyError, sqlite3.Error) as error:
                _log.warning("closing after a failed write", error=str(error))

    def _end(self, reason: ControllerError) -> None:
        with self._gate:
            self._ended = reason
        self._settle(reason)
        # What slipped in at the last moment is still written, unless the thread ends because it cannot.
        trouble = None if isinstance(reason, Retry) else reason
        while not self._jobs.empty():
            self._jobs.get()(trouble)
        self._drop()

    def _settle(self, trouble: ControllerError | None) -> None:
        try:
            if trouble is None:
                self._opened.set_result(None)
            else:
                self._opened.set_exception(trouble)
        except InvalidStateError:
            return  # opened long ago


def _perform[T](work: Callable[[], T], result: Future[T], trouble: ControllerError | None) -> None:
    if not result.set_running_or_notify_cancel():
        return
    try:
        if trouble is not None:
            raise trouble
        result.set_result(work())
    # Whatever a job raises belongs to its caller: raised here it would end the store for everybody.
    except Exception as error:  # noqa: BLE001
        result.set_exception(error if isinstance(error, ControllerError) else _defect(error))
    except BaseException:
        result.set_exception(Broken("the store's thread has died"))
        raise


def _in_transaction[T](connection: Connection, job: Callable[[Transaction], T], transaction: Transaction) -> T:
    with connection.begin():
        return job(transaction)


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _defect(error: Exception) -> Broken:
    broken = Broken(f"a store job failed: {type(error).__name__}: {error}")
    broken.__cause__ = error
    return broken
