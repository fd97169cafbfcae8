"""The end of a worker's or inspector's channel to the supervisor: its orders come, and log lines go, this way."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

from controller.wire.codec import Unreadable, render_line
from controller.wire.fields import as_number
from controller.wire.lines import LineReader

_UNREAD_BYTES = 256 * 1024
_LINE_BYTES = 64 * 1024


class Lease(asyncio.Protocol):
    """Calls *retire* with the seconds it is given, and *lost* when the supervisor's end has closed."""

    def __init__(self, retire: Callable[[float], None], lost: Callable[[], None]) -> None:
        self._retire = retire
        self._lost = lost
        self._reader = LineReader(_LINE_BYTES)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def data_received(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            if "retire" in message:
                try:
                    self._retire(as_number(message["retire"]))
                except Unreadable as error:
                    self._refuse(str(error))
                    return
        if self._reader.fault:
            self._refuse(self._reader.fault)

    def _refuse(self, why: str) -> None:
        sys.stderr.write(f"oton: unreadable message from the supervisor: {why}\n")
        if self._transport is not None:
            self._transport.abort()  # as if it had gone: we take nothing new, and go

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost()

    def send(self, message: Mapping[str, Any]) -> None:
        """Tell the supervisor; without one, say it on stderr."""
        if self._transport is None:
            sys.stderr.write(json.dumps(message) + "\n")
        elif self._transport.get_write_buffer_size() < _UNREAD_BYTES:
            # A supervisor that does not read must not fill our memory; log lines are what can be spared.
            self._transport.write(render_line(message))


class ToSupervisor(logging.Handler):
    """Sends log records over a lease."""

    def __init__(self, lease: Lease) -> None:
        super().__init__()
        self._lease = lease

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        level = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
        self._lease.send({"log": level, "event": self.format(record), "logger": record.name})
