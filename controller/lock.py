"""
One service on one state directory: a lock on the file `lock` in it.

The lock belongs to the open file, so the supervisor hands it down to its controller and both hold it; it
ends by itself when both are gone, however they went. There is nothing to clear by hand.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import MutableMapping
from pathlib import Path

from controller.errors import Refused

_PATIENCE_S = 1.0
"""A predecessor that was killed a moment ago needs a little time to be gone with all its children."""


class Lock:
    """The right to act on a state directory."""

    def __init__(self, place: Path, fd: int) -> None:
        self._place = place
        self.fd = fd

    @classmethod
    def take(cls, state: Path, *, patience_s: float = _PATIENCE_S) -> Lock:
        """
        Take the lock of *state*; Refused with one line where another service has it.

        The file descriptor is closed on exec; hand `fd` down explicitly.
        """
        place = state / "lock"
        deadline = time.monotonic() + patience_s
        try:
            while True:
                fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                lock = cls(place, fd)
                if _try_lock(fd):
                    if lock.still_ours():
                        lock._sign()
                        return lock
                elif time.monotonic() >= deadline:
                    raise Refused(_say_taken(state, fd))
                os.close(fd)
                time.sleep(0.05)
        except OSError as error:
            raise Refused(f"OTON_STATE: {place} cannot be locked: {error.strerror}") from error

    @classmethod
    def hold(cls, state: Path, environ: MutableMapping[str, str]) -> Lock:
        """Hold the lock that the supervisor handed down (`OTON_LOCK_FD`), or take it where there is no supervisor."""
        handed = environ.pop("OTON_LOCK_FD", "")
        return cls.adopt(state, int(handed)) if handed.isdigit() else cls.take(state)

    @classmethod
    def adopt(cls, state: Path, fd: int) -> Lock:
        """Hold the lock that our parent took and handed down as *fd*; Refused if it is not that of *state*."""
        lock = cls(state / "lock", fd)
        try:
            os.set_inheritable(fd, False)
        except OSError as error:
            raise Refused(f"OTON_STATE: the lock handed down is not open: {error.strerror}") from error
        if not (_try_lock(fd) and lock.still_ours()):
            raise Refused(f"OTON_STATE: the lock of {state} was replaced; stop whoever uses it and start again")
        return lock

    def still_ours(self) -> bool:
        """Say whether the lock's file is still the one that we hold; False when it is gone or replaced."""
        try:
            held, there = os.fstat(self.fd), self._place.lstat()
        except OSError:
            return False
        return stat.S_ISREG(there.st_mode) and (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)

    def release(self) -> None:
        """Give the lock up, unless a child still holds it; the file stays."""
        os.close(self.fd)

    def _sign(self) -> None:
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _say_taken(state: Path, fd: int) -> str:
    owner = os.pread(fd, 32, 0).decode(errors="replace").strip()
    by = f" (process {owner})" if owner.isdigit() else ""
    return f"OTON_STATE: {state} is in use by another service{by}; stop it, or choose another state directory"
