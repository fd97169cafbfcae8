"""
The highest numbers that were given out, in a small file that outlives the database.

Written with every number and never awaited: what a crash of the machine takes from it, the database still has.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import structlog

FILE = "numbers"
"""Its name in the state directory."""
LINE = "change={change:020} event={event:020} gap={gap:020}\n"
"""Of one length always, so that it is overwritten in place: that needs no room on a full disk."""

_log = structlog.get_logger("store")


class Numbers:
    """The file; one that cannot be read or written costs only what it is for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_failing = False

    def read(self) -> Mapping[str, int]:
        """Return the highest numbers by name, and what is to be added to those of a restored database."""
        try:
            return parse_line(self._path.read_text("ascii"))
        except (OSError, ValueError):
            return {}

    def write(self, values: Mapping[str, int]) -> None:
        """Note the highest numbers."""
        try:
            write_line(self._path, change=values["change"], event=values["event"])
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                _log.warning("the numbers file cannot be written", file=str(self._path), why=error.strerror)
            self._is_failing = True


def leave_gap(path: Path, gap: int) -> None:
    """Have the next database that is opened go on *gap* numbers higher; the file that is there knows better."""
    if not path.exists():
        write_line(path, gap=gap)


def write_line(path: Path, *, change: int = 0, event: int = 0, gap: int = 0) -> None:
    """Write the file's one line. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.pwrite(descriptor, LINE.format(change=change, event=event, gap=gap).encode(), 0)
    finally:
        os.close(descriptor)


def parse_line(text: str) -> Mapping[str, int]:
    """Read the file's line. Raises ValueError where it is another one."""
    pairs = (word.partition("=") for word in text.split())
    return {name: int(value) for name, _, value in pairs}
