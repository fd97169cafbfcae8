"""A capture under way: entries come from one inspector, and its end comes by itself."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

BEGIN_S = 5.0
"""An inspector that has not begun to record by then is not there."""

LONGEST_S = 3600.0
SIZE_BYTES = 64 * 1024 * 1024
"""What all entries of one capture may take as JSON."""

_WAITING = 2_000


class Capture:
    """Entries of one app's requests until its time is over, its size is reached, or somebody closes it."""

    def __init__(self, number: int, app: str, seconds: float, close: Callable[[], None]) -> None:
        self.number, self.app = number, app
        self.why_ended = ""
        self.lost = 0
        """Entries that nobody took in time."""
        self._ends = time.monotonic() + seconds
        self._close = close
        self._news: queue.Queue[Mapping[str, Any]] = queue.Queue(_WAITING)

    def put(self, message: Mapping[str, Any]) -> None:
        """Take what the inspector says."""
        try:
            self._news.put_nowait(message)
        except queue.Full:
            self.lost += 1

    def begin(self) -> str:
        """Wait until it is recorded; return why it is not, or ""."""
        try:
            message = self._news.get(timeout=BEGIN_S)
        except queue.Empty:
            return "its inspector does not answer"
        return "" if "began" in message else str(message.get("refused") or "its inspector has ended")

    def entries(self) -> Iterator[Mapping[str, Any]]:
        """Yield HAR entries as requests end; `why_ended` says afterwards why there are no more."""
        while (left_s := self._ends - time.monotonic()) > 0:
            try:
                message = self._news.get(timeout=left_s)
            except queue.Empty:
                break
            if "entry" in message:
                yield message["entry"]
            else:
                self.why_ended = str(message.get("over") or f"{SIZE_BYTES // 1024**2} MiB were reached")
                return
        self.why_ended = "its time was over"

    def close(self) -> None:
        """End it, from any thread; whoever reads entries is told at once."""
        self._close()
        while True:
            try:
                self._news.put_nowait({"over": "it was closed"})
                return
            except queue.Full:
                self._drop()

    def _drop(self) -> None:
        try:
            self._news.get_nowait()
        except queue.Empty:
            return
