"""A connection by TLS until its handshake is done: counted from its first packet on, like every other."""

from __future__ import annotations

import asyncio
import contextlib

from controller.proxy.core import Core
from controller.proxy.lane import Client
from controller.proxy.sockets import plain_address
from controller.proxy.tls import HANDSHAKE_S


class Newcomer(asyncio.Protocol):
    """
    Shakes hands, and then gives its place to a `Client`.

    Event loops that listen with a TLS context tell of a connection only after its handshake, so that clients which
    never finish one would count for no limit.
    """

    def __init__(self, core: Core, port: int) -> None:
        self._core = core
        self._port = port
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        address = plain_address(transport.get_extra_info("peername"))
        if not self._core.arrived(self, address):
            self._transport.abort()
            return
        # Eagerly: the first bytes of the handshake may come before a task that is merely scheduled would run.
        loop = asyncio.get_running_loop()
        self._task = asyncio.Task(self._shake_hands(loop, address), loop=loop, eager_start=True)

    async def _shake_hands(self, loop: asyncio.AbstractEventLoop, address: str) -> None:
        core = self._core
        client = Client(core, self._port, tls=True, newcomer=self)
        context = core.keyring.door()
        transport: asyncio.Transport | None = None
        try:
            with contextlib.suppress(OSError):  # the client knows why: by an alert, or because it left
                transport = await loop.start_tls(
                    self._transport, client, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
                )
        finally:
            # Of a client that left in mid-handshake no error tells, but a transport that is closed already.
            is_there = transport is not None and not transport.is_closing()
            if not is_there:
                core.departed(self, address)
        if is_there and transport is not None:
            client.connection_made(transport)

    def end_stream(self) -> None:
        """There is no stream yet."""

    def retire(self) -> None:
        """It may finish; its first answer will say that it is the last."""

    def cut(self) -> None:
        """End now."""
        self._transport.abort()
