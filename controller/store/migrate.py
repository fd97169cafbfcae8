"""
Bringing the file's schema up to ours.

All steps of one start are one transaction: a crash or an error leaves the file as it was. Before the first
of them runs on a file that holds something, a copy is made beside it.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection

from controller.errors import Refused
from controller.store.connection import raw_connection

SCRIPTS = Path(__file__).with_name("migrations")


def migrate(connection: Connection, path: Path) -> None:
    """Make the schema ours; Refused if a newer program wrote the file or no copy can be made."""
    config = _config()
    scripts = ScriptDirectory.from_config(config)
    found, empty = _revision(connection)
    if found == scripts.get_current_head():
        return
    if found is None and not empty:
        raise Refused(f"DB_PATH: {path} is not a database of this service; set DB_PATH to another file")
    if found is not None:
        _check_known(scripts, found, path)
    if not empty:
        copy_database(connection, path.with_name(f"{path.name}.before-{scripts.get_current_head()}"))
    _upgrade(connection, config, path)


def copy_database(connection: Connection, target: Path) -> None:
    """Write a whole, consistent copy to *target*, mode 0600 and renamed into place; Refused if it cannot be."""
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        copy = sqlite3.connect(temporary, isolation_level=None)
        try:
            raw_connection(connection).backup(copy)
            # A copy is read elsewhere: with the log's mode in its head it could not be from a read-only place.
            copy.execute("PRAGMA journal_mode=DELETE").close()
        finally:
            copy.close()
        _fsync(temporary)
        temporary.replace(target)
        _fsync(target.parent)
    except (OSError, sqlite3.Error) as error:
        temporary.unlink(missing_ok=True)
        raise Refused(f"cannot copy the database to {target}: {error}") from error


def head_revision() -> str:
    """Return the name of the newest schema that this program knows."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def is_known(revision: str) -> bool:
    """Say whether this program knows the schema *revision*."""
    try:
        return ScriptDirectory.from_config(_config()).get_revision(revision) is not None
    except CommandError:
        return False


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _revision(connection: Connection) -> tuple[str | None, bool]:
    with connection.begin():
        tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema").scalar_one()
        return MigrationContext.configure(connection).get_current_revision(), tables == 0


def _check_known(scripts: ScriptDirectory, revision: str, path: Path) -> None:
    try:
        scripts.get_revision(revision)
    except CommandError as error:
        raise Refused(
            f"DB_PATH: {path} was written by a newer version (schema {revision}, this one knows"
            f" {scripts.get_current_head()}); install that version, or restore the copy made before its migration"
        ) from error


def _upgrade(connection: Connection, config: Config, path: Path) -> None:
    # Rebuilding a table drops the old one: with foreign keys on, its rows' children would go with it.
    raw = raw_connection(connection)
    raw.execute("PRAGMA foreign_keys=OFF").close()
    try:
        with connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            orphan = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
            if orphan is not None:
                raise Refused(f"{path}: not migrated: it would leave rows without their parent in table {orphan[0]}")
    finally:
        raw.execute("PRAGMA foreign_keys=ON").close()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
