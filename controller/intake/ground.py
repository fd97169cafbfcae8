"""The watched directory itself, told apart from another of the same name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Ground:
    """Whatever directory stood at the name *root* at the last look."""

    root: Path
    _descriptor: int = -1
    _identity: tuple[int, int] = (0, 0)

    def is_replaced(self) -> bool:
        """Say whether another directory stands where the last one stood; no directory is no replacement."""
        try:
            status = self.root.stat()
        except OSError:
            return False
        return self._descriptor >= 0 and (status.st_dev, status.st_ino) != self._identity

    def has_moved(self) -> bool:
        """Say whether something else stands there than what is held, or nothing, or something at last."""
        there = os.path.isdir(self.root)  # noqa: PTH112 - unlike Path's, it never raises
        return self.is_replaced() or there != (self._descriptor >= 0)

    def hold(self) -> None:
        """Hold on to the directory that stands there now, and to none if there is none."""
        if not self.has_moved():
            return
        # Kept open: a removed directory's inode number could otherwise be the new one's, and look the same.
        try:
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            # What is held stays: only against it can be told whether the same directory comes back.
            return
        self.release()
        status = os.fstat(descriptor)
        self._descriptor, self._identity = descriptor, (status.st_dev, status.st_ino)

    def release(self) -> None:
        """Let go of the directory; harmless if none is held."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
