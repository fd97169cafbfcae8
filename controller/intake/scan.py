"""Reading the watched directory: which files count, and what is in them."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from controller.spec.parse import LARGEST_BYTES, Parsed, parse_file

RACY_S = 0.1
"""A file that changed this shortly before it was read is read again: its times may be too coarse to show more."""

_SUFFIXES = (".yaml", ".yml")
_OTHERS = ("~", ".tmp", ".swp")

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, mtime and ctime in nanoseconds: equal means unchanged."""


@dataclass(frozen=True, slots=True)
class FileProblem:
    """What is wrong with a file whose app cannot be told."""

    file: str
    line: int
    text: str
    """For a person, file and line in front."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One file as it was found."""

    file: str
    """Its path for a person: always printable, the directory in front."""
    path: Path
    stamp: Stamp = (0, 0, 0, 0, 0)
    digest: str = ""
    """Of its bytes; empty if it was not read."""
    parsed: Parsed | None = None
    problem: str = ""
    """Why it was not read, file in front."""
    whole_line: bool = True
    """It ends with a line break, as text that was written to its end does."""
    blank: bool = False
    """It is text and holds no document."""
    racy: bool = False

    @property
    def sound(self) -> bool:
        """Say whether it was read and nothing is wrong with it."""
        return self.parsed is not None and not self.parsed.problems


RootState = Literal["ok", "missing", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The directory at one moment."""

    root: RootState = "ok"
    files: Mapping[str, Seen] = field(default_factory=dict)
    """By `Seen.file`."""
    blind: tuple[str, ...] = ()
    """Folders that exist and cannot be read; what was in them may still be there."""


def counts(name: str) -> bool:
    """Say whether a file or folder of this name counts, its ending aside."""
    return not name.startswith(".") and not name.endswith(_OTHERS)


def printable(path: Path) -> str:
    """Return *path* as text that can be stored and shown, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def observe_directory(root: Path, before: Mapping[str, Seen], *, full: bool, only: tuple[str, ...] = ()) -> Look:
    """
    Return all files that count below *root*; with *only*, those in these folders of it.

    What *before* has with the same stamp is taken from there, unless *full* asks to read every byte.
    """
    walk = _Walk(root, before, full=full, only=tuple(root / folder for folder in only))
    return walk.look()


class _Walk:
    def __init__(self, root: Path, before: Mapping[str, Seen], *, full: bool, only: tuple[Path, ...]) -> None:
        self._root = root
        self._only = only
        self._before = before
        self._full = full
        self._files: dict[str, Seen] = {}
        self._blind: list[str] = []
        self._entered: set[tuple[int, int]] = set()
        self._folders: list[Path] = []
        self._links: list[Path] = []

    def look(self) -> Look:
        try:
            self._real = os.path.realpath(self._root, strict=True)
            self._enter(self._root)
        except OSError as error:
            missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
            return Look(root="missing" if missing else "unreadable")
        # Linked folders come after real ones, so that what is reachable both ways keeps its real name.
        while folders := self._folders or self._links:
            self._walk(folders.pop(0))
        return Look(files=self._files, blind=tuple(self._blind))

    def _walk(self, folder: Path) -> None:
        try:
            self._enter(folder)
        except FileNotFoundError:
            return
        except OSError:
            self._blind.append(printable(folder))

    def _enter(self, folder: Path) -> None:
        """Take what is in *folder*, unless it was walked before, as links may lead in a circle."""
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in self._entered:
            return
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names alone; the paths are made for those that count
        self._entered.add(identity)
        for name in names:
            if counts(name) and self._is_wanted(folder / name):
                self._take_one(folder / name, is_file=name.endswith(_SUFFIXES))

    def _is_wanted(self, path: Path) -> bool:
        """Say whether *path* is in a wanted folder, or on the way to one."""
        return not self._only or any(path.is_relative_to(one) or one.is_relative_to(path) for one in self._only)

    def _take_one(self, path: Path, *, is_file: bool) -> None:
        try:
            linked = path.is_symlink()
            status = self._follow(path) if linked else path.lstat()
        except FileNotFoundError:
            return
        except OSError as error:
            if is_file:
                self._note(path, error)
            return
        if status is None:
            if is_file or os.path.isdir(path):  # noqa: PTH112 - unlike Path's, it never raises
                self._refuse(path, "a link that leads outside the watched directory, allowed: links inside it")
        elif stat.S_ISDIR(status.st_mode):
            (self._links if linked else self._folders).append(path)
        elif is_file:
            self._read(path, status)

    def _follow(self, link: Path) -> os.stat_result | None:
        """Return the status of what *link* leads to; None if that is outside the directory."""
        real = os.path.realpath(link)
        if real != self._real and not real.startswith(self._real.rstrip("/") + "/"):
            return None
        try:
            return Path(real).stat()
        except FileNotFoundError as error:
            # Not "gone": the link is there, and its target may be on its way.
            raise OSError(errno.ENOLINK, "the link leads nowhere") from error

    def _read(self, path: Path, status: os.stat_result) -> None:
        file = printable(path)
        known = self._before.get(file)
        if known is not None and not self._full and not known.racy and known.stamp == _stamp(status):
            self._files[file] = known
            return
        if not stat.S_ISREG(status.st_mode):
            self._refuse(path, "not a regular file")
            return
        try:
            data, status = _load_bytes(path)
        except FileNotFoundError:
            return
        except OSError as error:
            self._note(path, error)
            return
        if data is None:
            problem = f"{file}: found {status.st_size} bytes, allowed: at most {LARGEST_BYTES} (1M)"
            self._files[file] = Seen(file=file, path=path, stamp=_stamp(status), problem=problem)
        else:
            self._files[file] = _parse_seen(file, path, data, status, known)

    def _note(self, path: Path, error: OSError) -> None:
        file = printable(path)
        self._files[file] = Seen(file=file, path=path, problem=f"{file}: cannot be read: {error.strerror or error}")

    def _refuse(self, path: Path, why: str) -> None:
        file = printable(path)
        self._files[file] = Seen(file=file, path=path, problem=f"{file}: {why}")


def _load_bytes(path: Path) -> tuple[bytes | None, os.stat_result]:
    """Return the file's bytes (None: more than the limit) and the status of just what was read."""
    # Not blocking: opening a pipe that somebody put there would otherwise wait for its writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        data = stream.read(LARGEST_BYTES + 1) if status.st_size <= LARGEST_BYTES else None
    return (data if data is not None and len(data) <= LARGEST_BYTES else None), status


def _parse_seen(file: str, path: Path, data: bytes, status: os.stat_result, known: Seen | None) -> Seen:
    digest = hashlib.sha256(data).hexdigest()
    racy = time.time() - status.st_ctime < RACY_S
    if known is not None and known.digest == digest:
        return replace(known, stamp=_stamp(status), racy=racy)
    parsed = parse_file(data, file)
    return Seen(
        file=file,
        path=path,
        stamp=_stamp(status),
        digest=digest,
        parsed=parsed,
        whole_line=data.endswith((b"\n", b"\r")),
        blank=not parsed.documents and parsed.is_bounded and _is_text(data),
        racy=racy,
    )


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _stamp(status: os.stat_result) -> Stamp:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
