"""People's mitmproxy addons as they stand in the state directory: one file of Python a name."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FOLDER = "addons"
SOURCE_BYTES = 1024 * 1024
"""Longest addon."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The addons of one app, in its order, and those that could not be read."""

    addons: tuple[tuple[str, str], ...] = ()
    """(name, source)"""
    missing: tuple[tuple[str, str], ...] = ()
    """(name, why)"""

    @property
    def wish(self) -> str:
        """Return what changes whenever the addons do."""
        return hashlib.sha256(repr((self.addons, self.missing)).encode()).hexdigest()[:16]


def load_sources(state: Path, names: Iterable[str]) -> Sources:
    """Read the addons *names* from *state*."""
    addons: list[tuple[str, str]] = []
    missing: list[tuple[str, str]] = []
    for name in names:
        place = state / FOLDER / f"{name}.py"
        try:
            addons.append((name, _read(place)))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            missing.append((name, f"{place}: {why}"))
    return Sources(tuple(addons), tuple(missing))


def _read(place: Path) -> str:
    # Not blocking: a pipe that somebody put there must not stop the desk.
    fd = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("it is not a file")
        data = file.read(SOURCE_BYTES + 1)
    if len(data) > SOURCE_BYTES:
        raise ValueError(f"it is longer than {SOURCE_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
