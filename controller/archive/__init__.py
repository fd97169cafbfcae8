"""
A backup as one file: the database, and those files of the state directory that cannot be recreated.

Knows which files those are and how they are packed, and nothing of what is in the database: it is copied and checked by
the store's room.
Restoring happens in two steps: `stage` checks and unpacks beside what is in use, and `apply_staged` puts it in
place at the next start of the controller, before anything is open.
"""

from __future__ import annotations

import calendar
import json
import os
import re
import secrets
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from controller.archive.unpack import DATABASE, MANIFEST, STATE, unpack_files
from controller.errors import Refused, Retry
from controller.store.backup import Checked, check_backup, restore_backup
from controller.store.numbers import FILE as NUMBERS
from controller.store.numbers import leave_gap
from controller.store.store import KEY_FILE

FORMAT = 1
"""Version of the archive; an older one is understood, a newer one refused."""
SAVED = "%Y-%m-%dT%H:%M:%SZ"
STAGED, KEPT, LAST = "restore", "before-restore", "restored.json"
MADE_ANEW = frozenset(
    {"lock", "proxy", "engine", "secret-files", "recordings", NUMBERS, STAGED, f"{STAGED}-failed", KEPT, LAST}
)
"""What of the state directory is another start's, another machine's, or too large."""
GAP, GAP_EACH_S = 1000, 60
"""How many numbers a service elsewhere may have given out since its backup: these, and one a minute of its age."""
TRIES = 3
_INSTANCE = re.compile(r"[0-9a-f]{12}")


class Database(Protocol):
    """The store, as far as it is copied."""

    def backup(self, file: Path) -> Checked: ...
    def apps(self) -> Collection[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The service whose backup this is."""

    state: Path
    database: Path
    instance: str
    version: str


def save_archive(place: Place, database: Database, target: Path) -> Mapping[str, Any]:
    """Write a backup (mode 0600) to *target* while the service runs; return what is in it."""
    folder = target.with_name(f".{target.name}.parts")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
        checked = _copy_database(place, database, folder / DATABASE)
        manifest = {
            "format": FORMAT,
            "instance": place.instance,
            "version": place.version,
            "saved": time.strftime(SAVED, time.gmtime()),
            "schema": checked.revision,
            "apps": list(checked.apps),
        }
        (folder / MANIFEST).write_text(json.dumps(manifest))
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as out, tarfile.open(fileobj=out, mode="w:gz") as archive:
            archive.add(folder / MANIFEST, MANIFEST)
            archive.add(folder / DATABASE, DATABASE)
            for file in files_to_keep(place):
                archive.add(file, f"{STATE}/{file.relative_to(place.state)}", recursive=False)
    except OSError as error:
        raise Retry(f"the backup cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return manifest


def files_to_keep(place: Place) -> Iterator[Path]:
    """Yield the files of the state directory that belong into a backup, keys and certificates included."""
    for path in sorted(place.state.rglob("*")):
        first = path.relative_to(place.state).parts[0]
        is_temporary = any(part.startswith(".") for part in path.relative_to(place.state).parts)
        is_database = path.name.startswith(place.database.name) and path.parent == place.database.parent
        if first not in MADE_ANEW and not is_temporary and not is_database and path.is_file() and not path.is_symlink():
            yield path


def stage(place: Place, archive: Path, *, has_apps: bool) -> Mapping[str, Any]:
    """
    Check *archive* and unpack it for the next start; return its manifest, with the mark of this restoring.

    Refused, with nothing changed, where it is not a whole backup, or is another instance's while this one has apps.
    """
    folder, staged = place.state / f".{STAGED}", place.state / STAGED
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
        unpack_files(archive, folder)
        manifest = _read_manifest(folder)
        check_backup(folder / DATABASE)
        if has_apps and manifest["instance"] != place.instance:
            raise Refused(
                f"found a backup of instance {manifest['instance']}, and this service ({place.instance}) has apps,"
                " whose containers it would lose track of; delete them, or restore into a new state directory"
            )
        manifest = {**manifest, "mark": secrets.token_hex(8)}
        (folder / MANIFEST).write_text(json.dumps(manifest))
        shutil.rmtree(staged, ignore_errors=True)
        folder.replace(staged)
    except OSError as error:
        raise Retry(f"the backup cannot be unpacked: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return manifest


def apply_staged(state: Path, database: Path) -> Mapping[str, Any] | None:
    """
    Put a staged backup in place; None if there is none. Nothing may have the database open.

    What it replaces stays beside the database and below `before-restore`. A crash in the middle is gone on from.
    """
    staged = state / STAGED
    if not staged.is_dir():
        return None
    manifest = _read_manifest(staged)
    if (staged / DATABASE).exists():
        restore_backup(staged / DATABASE, database)
        (staged / DATABASE).unlink()
        leave_gap(state / NUMBERS, GAP + age_s(manifest) // GAP_EACH_S)
    for file in sorted((staged / STATE).rglob("*")):
        if file.is_file():
            _put_in_place(file, state, file.relative_to(staged / STATE))
    (staged / MANIFEST).replace(state / LAST)
    shutil.rmtree(staged, ignore_errors=True)
    return manifest


def age_s(manifest: Mapping[str, Any]) -> int:
    """Return the seconds since a backup was saved; 0 where it does not say, or says the future."""
    try:
        saved = calendar.timegm(time.strptime(str(manifest.get("saved")), SAVED))
    except ValueError:
        return 0
    return max(0, int(time.time()) - saved)


def load_last(state: Path) -> Mapping[str, Any] | None:
    """Return the manifest of what was restored last; None: nothing ever was."""
    try:
        found: Mapping[str, Any] = json.loads((state / LAST).read_text())
    except (OSError, ValueError):
        return None
    return found


class Archive:
    """The backups of a running service; *end* lets it restart."""

    def __init__(self, place: Place, database: Database, end: Callable[[], None]) -> None:
        self._place = place
        self._database = database
        self.restart = end

    def new_file(self) -> Path:
        """Return the path of a new, empty file for an archive (mode 0600) in the state directory."""
        handle, name = tempfile.mkstemp(prefix=".archive-", dir=self._place.state)
        os.close(handle)
        return Path(name)

    def save(self) -> Path:
        """Return a file with a new backup; whoever asked for it removes it."""
        file = self.new_file()
        try:
            save_archive(self._place, self._database, file)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        return file

    def stage(self, file: Path) -> Mapping[str, Any]:
        """Stage the backup in *file* for the next start."""
        return stage(self._place, file, has_apps=bool(self._database.apps()))

    def last(self) -> Mapping[str, Any] | None:
        """Return the manifest of what was restored last."""
        return load_last(self._place.state)


def _copy_database(place: Place, database: Database, target: Path) -> Checked:
    """Copy the database together with the very keys that it was written with."""
    for _ in range(TRIES):
        before = _key_bytes(place)
        checked = database.backup(target)
        if before == _key_bytes(place):
            return checked
    raise Retry("the keys of the secrets keep changing; try again")


def _key_bytes(place: Place) -> bytes:
    file = place.state / KEY_FILE
    return file.read_bytes() if file.exists() else b""


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        version, instance = int(manifest["format"]), str(manifest["instance"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused("not an Oton Pilot backup: it has no manifest") from error
    if version > FORMAT:
        raise Refused(f"found a backup of format {version}, this version supports up to {FORMAT}; install a newer one")
    if not _INSTANCE.fullmatch(instance) or not (folder / MANIFEST).parent.is_dir():
        raise Refused(f'found instance "{instance[:40]}" in the backup, allowed: 12 hexadecimal digits')
    return dict(manifest)


def _put_in_place(file: Path, state: Path, name: Path) -> None:
    target, kept = state / name, state / KEPT / name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if target.exists():
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            target.replace(kept)
    file.replace(target)
