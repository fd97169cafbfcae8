"""
Secret files on their way into containers: in memory only, readable inside the container and nowhere else.

Knows folders and modes; knows nothing of the store, of Docker, or of what an app is.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from controller.errors import Refused, Retry

MOUNTS = Path("/proc/self/mountinfo")
KEY_LETTERS = 16
"""So much of a container part's digest names its folder; more would only make paths long."""
ONE_OFF = "run-"
"""Begins the key of a one-off, which is handed its files alone."""
YOUNG_S = 60.0
"""A folder this fresh may belong to a container that is just being made; sweeping leaves it."""
_MEMORY = ("tmpfs", "ramfs")


@dataclass(frozen=True, slots=True)
class Vault:
    """A folder of our own, below it one for each app, below that one for each container part."""

    base: Path
    in_memory: bool

    def lay(self, app: str, key: str, values: Mapping[str, str], *, anew: bool = True) -> Mapping[str, str]:
        """
        Return the path of a file for each of *values*, by name.

        Files that are there are replaced; unless *anew*, they stay as they are, and only missing ones are made.
        Raises Retry where there is no room, Refused where the folder is not ours.
        """
        if not values:
            return {}
        folder = self._folder(app, key)
        try:
            _own(self.base)
            _own(folder.parent)
            _own(folder)
            for name, value in sorted(values.items()):
                if anew or not (folder / name).is_file():
                    _write(folder / name, value)
        except OSError as error:
            raise Retry(f"secret files cannot be written to {self.base}: {error.strerror or error}") from error
        return {name: str(folder / name) for name in sorted(values)}

    def has(self, app: str, key: str, names: Collection[str]) -> bool:
        """Say whether a file for each of *names* is there."""
        folder = self._folder(app, key)
        return all((folder / name).is_file() for name in names)

    def drop(self, app: str, key: str) -> None:
        """Remove the files of one container part, and the app's folder with its last; gone is success."""
        shutil.rmtree(self._folder(app, key), ignore_errors=True)
        for folder in (self.base / app, self.base):
            with suppress(OSError):  # others are still in it
                folder.rmdir()

    def sweep(self, keep: Collection[tuple[str, str]], now: float | None = None) -> None:
        """
        Remove what no container of *keep* (app, digest of its container part) can need any more.

        (app, `ONE_OFF`) keeps all that was laid out for the app's one-offs.
        """
        now = time.time() if now is None else now
        kept = {(app, key[:KEY_LETTERS]) for app, key in keep}
        for folder in sorted(self.base.glob("*/*")):
            with suppress(FileNotFoundError):
                is_young = now - folder.stat().st_mtime < YOUNG_S
                is_kept = (folder.parent.name, folder.name) in kept or (
                    folder.name.startswith(ONE_OFF) and (folder.parent.name, ONE_OFF) in kept
                )
                if not is_kept and not is_young:
                    self.drop(folder.parent.name, folder.name)

    def _folder(self, app: str, key: str) -> Path:
        return self.base / app / key[:KEY_LETTERS]


def open_vault(instance: str, state: Path, environment: Mapping[str, str], mounts: str | None = None) -> Vault:
    """
    Return the vault of this instance: in memory where the machine has a place for it, else in *state*.

    *mounts* is the kernel's list of mounts; without it, this process's own is read.
    """
    if mounts is None:
        mounts = MOUNTS.read_text() if MOUNTS.exists() else ""
    for place in _places(environment):
        if place.is_dir() and file_system_of(place, mounts) in _MEMORY and os.access(place, os.W_OK | os.X_OK):
            return Vault(place / f"oton-{instance}", in_memory=True)
    return Vault(state / "secret-files", in_memory=file_system_of(state, mounts) in _MEMORY)


def _places(environment: Mapping[str, str]) -> tuple[Path, ...]:
    # No mount of our own: a service manager may give us a view of the mounts in which the engine has no part,
    # and the engine would then hand an empty file to the container.
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    first = Path("/run") if os.geteuid() == 0 else Path(runtime)
    return tuple(place for place in (first, Path("/dev/shm")) if place.is_absolute())  # noqa: S108 - checked by _own


def file_system_of(path: Path, mounts: str) -> str:
    """Return the type of the file system that *path* is on, as *mounts* (mountinfo) has it; "" if that is not told."""
    real, best = os.path.realpath(path), ("", "")
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields, kinds = left.split(), right.split()
        if len(fields) < 5 or not kinds:
            continue
        point = fields[4].encode().decode("unicode_escape")
        is_above = real == point or real.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= len(best[0]):
            best = (point, kinds[0])
    return best[1]


def _own(folder: Path) -> None:
    """Make *folder* ours and closed to others; one that somebody else put there is refused."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise Refused(f"{folder}: exists and is not ours; remove it")
    if stat.S_IMODE(status.st_mode) != 0o700:
        folder.chmod(0o700)


def _write(path: Path, value: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    with os.fdopen(descriptor, "wb") as out:
        out.write(value.encode())
        # Whoever the container runs as may read it; on the host, the closed folder keeps everyone else out.
        os.fchmod(descriptor, 0o444)
    # A rename, so that a container that has the old file mounted keeps a whole one.
    temporary.replace(path)
