"""
The only connection, and what SQLite's errors mean to us.

Journal: write-ahead log in exclusive mode (docs/decisions/010-sqlite-journal.md). Python's own handling of
transactions is off, since it begins too late and commits around DDL; each of ours begins IMMEDIATE.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from controller.errors import Broken, ControllerError, Refused, Retry

BUSY_S = 5.0
"""How long another process may hold the file (one of ours that is just ending) before we give up."""

_PRAGMAS = (
    # Exclusive before the log is first touched: then no -shm file exists and nobody else can open the file.
    "locking_mode=EXCLUSIVE",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "journal_size_limit=4194304",
    "temp_store=MEMORY",
    "trusted_schema=OFF",
)
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
}
_RUINED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_IN_DOUBT = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM}


def open_connection(path: Path) -> Connection:
    """Open *path* (made with mode 0600 if absent) and lock out every other process; Refused with one line if not."""
    _make_file(path)
    engine = create_engine("sqlite://", creator=lambda: _connect(path), poolclass=StaticPool)
    event.listen(engine, "begin", _begin)
    try:
        connection = engine.connect()
    except SQLAlchemyError as error:
        raise _refusal(error, path) from error
    try:
        with connection.begin():
            _check_whole(connection, path)
    except SQLAlchemyError as error:
        close_connection(connection)
        raise _refusal(error, path) from error
    except Refused:
        close_connection(connection)
        raise
    return connection


def close_connection(connection: Connection) -> None:
    """Close it for good; SQLite folds the log back into the file."""
    engine: Engine = connection.engine
    connection.close()
    engine.dispose()


def raw_connection(connection: Connection) -> sqlite3.Connection:
    """Return the driver's own connection, for what SQLAlchemy has no words for (backup)."""
    raw = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        raise Broken("the store's connection is not SQLite's own")
    return raw


def translate_error(error: SQLAlchemyError | sqlite3.Error, path: Path) -> ControllerError:
    """Return what *error* means for the loop: Retry, Refused or Broken, with a line for a person."""
    code = _code(error)
    if code in _PASSING:
        return Retry(f"{path}: {_words(error)}; nothing was recorded; retrying")
    if code in _RUINED:
        return Refused(f"{path}: {_words(error)}; stop the service and run: oton restore FILE")
    return Broken(f"{path}: {_words(error)}")


def leaves_doubt(error: SQLAlchemyError | sqlite3.Error) -> bool:
    """Say whether after *error* only a new connection shows what is really on the disk."""
    return _code(error) in _IN_DOUBT


def _make_file(path: Path) -> None:
    # SQLite itself would make it with the umask's mode: tokens' hashes must not be readable by others.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Refused(f"DB_PATH: cannot open {path}: {error.strerror}") from error


def _connect(path: Path) -> sqlite3.Connection:
    raw = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        for pragma in _PRAGMAS:
            raw.execute(f"PRAGMA {pragma}").close()
    except sqlite3.Error:
        raw.close()
        raise
    return raw


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _check_whole(connection: Connection, path: Path) -> None:
    found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if found != "ok":
        raise Refused(
            f"DB_PATH: {path} is damaged ({' '.join(str(found).split())}); move it away or run: oton restore FILE"
        )


def _refusal(error: SQLAlchemyError, path: Path) -> ControllerError:
    code = _code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Refused(f"DB_PATH: {path} is in use by another process; a database serves one service only")
    if code == sqlite3.SQLITE_NOTADB:
        return Refused(f"DB_PATH: {path} is not a SQLite database; move it away or set DB_PATH to another file")
    if code in _RUINED:
        return Refused(f"DB_PATH: {path} is damaged ({_words(error)}); move it away or run: oton restore FILE")
    return Refused(f"DB_PATH: cannot use {path}: {_words(error)}")


def _code(error: SQLAlchemyError | sqlite3.Error) -> int:
    origin = error.orig if isinstance(error, DBAPIError) else error
    return getattr(origin, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _words(error: SQLAlchemyError | sqlite3.Error) -> str:
    origin = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(origin).split())
