"""
Access log lines on their way to an inherited descriptor, off the path of a request.

Lines wait in memory and are written in batches by the loop's own timer. A reader that stalls costs lines,
which are counted, and never a request: the descriptor is shared with other processes, so it may not be made
non-blocking; the kernel is asked first instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import stat
from collections.abc import Callable, Mapping
from typing import Any

ATOMIC_BYTES = 4096
"""What a pipe takes in one piece, so that lines of several workers never mix."""

_WAITING_BYTES = 4 * 1024 * 1024
_EASY_S, _BUSY_S = 0.1, 0.02


class LogPipe:
    """A queue of log lines with a bound."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop, complain: Callable[[str], None]) -> None:
        self._fd = fd
        self._loop = loop
        self._complain = complain
        self._whole = stat.S_ISREG(os.fstat(fd).st_mode)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._lines: list[bytes] = []
        self._bytes = 0
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None

    def write(self, entry: Mapping[str, Any] | bytes) -> None:
        """Queue *entry* (or a whole line) as one JSON line; drops and counts it when too much waits already."""
        if self._bytes > _WAITING_BYTES:
            self._dropped += 1
            return
        line = entry if isinstance(entry, bytes) else _render(entry)
        self._lines.append(line)
        self._bytes += len(line)
        if self._timer is None:
            self._timer = self._loop.call_later(_EASY_S, self._tick)

    def flush(self) -> None:
        """Write as much as the reader takes now."""
        with contextlib.suppress(OSError):  # the reader has gone for good; the lines have nowhere to go
            while self._lines and self._is_writable():
                os.write(self._fd, self._next_batch())

    def _tick(self) -> None:
        self._timer = None
        self.flush()
        if self._lines:
            self._timer = self._loop.call_later(_BUSY_S, self._tick)
        elif self._dropped:
            self._complain(f"access log: {self._dropped} lines were dropped, its reader is too slow")
            self._dropped = 0

    def _is_writable(self) -> bool:
        ready = self._poll.poll(0)
        if ready and ready[0][1] & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            self._lines.clear()
            self._bytes = 0
            return False
        return bool(ready)

    def _next_batch(self) -> bytes:
        if self._whole:
            batch = b"".join(self._lines)
            self._lines.clear()
            self._bytes = 0
            return batch
        size = count = 0
        for line in self._lines:
            if count and size + len(line) > ATOMIC_BYTES:
                break
            size += len(line)
            count += 1
        batch = b"".join(self._lines[:count])
        del self._lines[:count]
        self._bytes -= size
        return batch


def _render(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
