"""
A copy of the database while it is used, and a copy put in its place while it is not.

The key file is not in it: a backup alone shows no secret. Whoever restores without the key file has to set
the secrets again.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from controller.errors import Refused
from controller.store.migrate import copy_database, head_revision, is_known
from controller.store.thread import StoreThread


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a sound backup holds."""

    revision: str
    """Its schema; an older one is migrated at the next start."""
    apps: tuple[str, ...]
    change: int
    """The greatest change number in it."""
    size_bytes: int


def save_backup(thread: StoreThread, file: Path) -> Checked:
    """Write a consistent copy of the database in use to *file* (mode 0600) and check it; Refused if it cannot be."""
    thread.call_between(lambda connection: copy_database(connection, file))
    return check_backup(file)


def check_backup(file: Path) -> Checked:
    """Return what *file* holds; Refused unless it is a whole database of ours that this program can read."""
    if not file.is_file():
        raise Refused(f"{file}: there is no such file")
    try:
        # Immutable: nothing is written beside it, so that it may lie on a read-only disk.
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as raw:
            return _check(raw, file)
    except sqlite3.Error as error:
        raise Refused(f"{file}: not an Oton Pilot backup: {error}") from error


def restore_backup(file: Path, path: Path) -> Path | None:
    """
    Put the backup *file* in the place of the database *path*, which no service may have open.

    Returns where the one that was there is kept. Refused, with nothing changed, if *file* is not sound or
    *path* is in use.
    """
    check_backup(file)
    kept = path.with_name(f"{path.name}.before-restore") if path.exists() else None
    temporary = path.with_name(f".{path.name}.restore")
    try:
        if kept is not None:
            _fold_log(path)
        _write_copy(file, temporary)
        if kept is not None:
            kept.unlink(missing_ok=True)
            _write_copy(path, kept)
        # A log that belongs to another file would be taken for this one's.
        for suffix in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        temporary.replace(path)
        _fsync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Refused(f"cannot restore {file} to {path}: {error}") from error
    return kept


def _check(raw: sqlite3.Connection, file: Path) -> Checked:
    found = raw.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise Refused(f"{file}: damaged: {found}")
    revision = raw.execute("SELECT version_num FROM alembic_version").fetchone()
    if revision is None or not is_known(revision[0]):
        written = "nothing" if revision is None else f"schema {revision[0]}"
        raise Refused(f"{file}: found {written}, this version supports up to {head_revision()}; install a newer one")
    apps = tuple(name for (name,) in raw.execute("SELECT name FROM apps ORDER BY name"))
    change = raw.execute("SELECT max(value) FROM counters WHERE name = 'change'").fetchone()[0] or 0
    return Checked(revision=revision[0], apps=apps, change=change, size_bytes=file.stat().st_size)


def _fold_log(path: Path) -> None:
    """Fold the log of a database that nobody uses into its file; Refused if somebody does."""
    try:
        with closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as raw:
            raw.execute("PRAGMA locking_mode=EXCLUSIVE")
            raw.execute("BEGIN EXCLUSIVE")
            raw.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise Refused(f"{path}: in use; stop the service first") from error
        raise Refused(f"{path}: {error}") from error
    except sqlite3.DatabaseError:
        return  # damaged: that is why it is being replaced


def _write_copy(file: Path, temporary: Path) -> None:
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as out, file.open("rb") as source:
        while piece := source.read(1024 * 1024):
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())


def _fsync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
