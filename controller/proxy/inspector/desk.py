"""
The line to the controller's desk for inspectors, by which addons come and captures are asked for.

    inspector -> controller
      {"hello": {"app", "number", "pid"}}
      {"ready": [addons that were loaded]}
      {"trouble": addon, "error": text}          an addon raised
      {"exhausted": bytes}                       all the memory that it may have is used up; it ends
      {"captured": number, "entry": {...}}       one flow, credentials masked
      {"captured": number, "full": true}         no more has room
      {"captured": number, "refused": why}       the filter cannot be read
      {"captured": number, "began": true}
    controller -> inspector
      {"addons": [[name, source], ...]}
      {"capture": number, "filter": text, "size": bytes}
      {"end": number}
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, cast

from controller.wire.codec import render_line
from controller.wire.lines import LineReader

SOCKET = "../desk.sock"
"""Beside the working directory, which is the inspector's own folder in state/proxy/inspect."""

_AGAIN_S = 0.3
_UNREAD_BYTES = 8 * 1024 * 1024
_KEPT = 50
_SAID = 200


class Desk(asyncio.Protocol):
    """Stays connected to the controller until its task is cancelled."""

    def __init__(self, hello: Mapping[str, Any], hear: Callable[[Mapping[str, Any]], None]) -> None:
        self._hello = hello
        self._hear = hear
        self._reader = LineReader()
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()
        self._unsent: deque[Mapping[str, Any]] = deque(maxlen=_KEPT)
        self.on_lost: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Stay connected."""
        loop = asyncio.get_running_loop()
        while True:
            self._lost.clear()
            try:
                await loop.create_unix_connection(lambda: self, SOCKET)
                await self._lost.wait()
            except OSError:
                pass
            await asyncio.sleep(_AGAIN_S * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    def say(self, message: Mapping[str, Any]) -> bool:
        """Send *message*; False where nobody takes it now."""
        transport = self._transport
        if transport is None or transport.get_write_buffer_size() > _UNREAD_BYTES:
            return False
        transport.write(render_line(message))
        return True

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send *message* now, or as soon as there is a controller."""
        if not self.say(message):
            self._unsent.append(message)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._reader = LineReader()
        self.say({"hello": self._hello})
        for message in tuple(self._unsent):
            self.say(message)
        self._unsent.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost.set()
        self.on_lost()

    def data_received(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            try:
                self._hear(message)
            except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
                self._refuse(repr(error)[:_SAID])
                return
        if self._reader.fault:
            self._refuse(self._reader.fault)

    def _refuse(self, why: str) -> None:
        logging.getLogger("inspector").error("unreadable message from the controller: %s", why)
        if self._transport is not None:
            self._transport.abort()
