"""
What mitmproxy sees of the lane: a server mode `oton` that listens on inherited sockets, and the addon around it.

Importing this module registers the mode; one process runs one Master and so one addon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from socket import socket

from mitmproxy.connection import Address
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.mode_servers import ServerInstance
from mitmproxy.proxy.mode_specs import ProxyMode

from controller.proxy.core import Core
from controller.proxy.lane import Client
from controller.proxy.newcomer import Newcomer


class OtonAddon:
    """Runs the lane of *core* on *sockets* (and, with TLS, on *tls_sockets*) inside mitmproxy's Master."""

    name = "oton"

    def __init__(self, core: Core, sockets: Sequence[socket], tls_sockets: Sequence[socket] = ()) -> None:
        self.core = core
        self.sockets = tuple(sockets)
        self.tls_sockets = tuple(tls_sockets)
        self.servers: list[asyncio.Server] = []
        global _addon  # noqa: PLW0603 - mitmproxy makes the server instance itself, with no way to hand it things
        _addon = self

    async def listen(self) -> None:
        """Accept on all sockets."""
        core = self.core
        core.start()
        core.stop_listening = self.close
        if core.retiring:
            return
        for sock in self.sockets:
            await self._accept(sock, Client)
        for sock in self.tls_sockets:
            await self._accept(sock, Newcomer)

    async def _accept(self, sock: socket, kind: Callable[[Core, int], asyncio.Protocol]) -> None:
        core, port = self.core, port_of(sock)
        loop = asyncio.get_running_loop()
        self.servers.append(await loop.create_server(lambda: kind(core, port), sock=sock, backlog=_BACKLOG))

    def close(self) -> None:
        """Stop accepting; what is open stays."""
        for server in self.servers:
            server.close()
        self.servers = []

    def done(self) -> None:
        """Mitmproxy ends."""
        self.close()
        self.core.stop()


def port_of(sock: socket) -> int:
    """Return the port that *sock* is bound to; 0 for one that has none."""
    name = sock.getsockname()
    return int(name[1]) if isinstance(name, tuple) else 0


_addon: OtonAddon | None = None
_BACKLOG = 4096


class OtonMode(ProxyMode):  # type: ignore[no-untyped-call]
    """The mode `oton`: public HTTP by the routing table."""

    description = "Oton lane"
    transport_protocol = "tcp"
    default_port = None

    def __post_init__(self) -> None:
        if self.data:
            raise ValueError("mode oton takes no arguments")


class OtonServer(ServerInstance[OtonMode]):  # type: ignore[no-untyped-call]
    """The server that mitmproxy starts for the mode."""

    @property
    def is_running(self) -> bool:
        """Say whether it listens."""
        return _addon is not None and bool(_addon.servers)

    @property
    def listen_addrs(self) -> tuple[Address, ...]:
        """Return where it listens."""
        servers = _addon.servers if _addon is not None else []
        return tuple(sock.getsockname() for server in servers for sock in server.sockets)

    async def _start(self) -> None:
        if _addon is None:
            raise RuntimeError("mode oton needs the OtonAddon")
        await _addon.listen()

    async def _stop(self) -> None:
        if _addon is not None:
            _addon.close()

    def make_top_layer(self, context: Context) -> Layer:
        """Mitmproxy's own layers have no part in this mode."""
        raise NotImplementedError("the lane does not use mitmproxy's layers")
