"""
mitmproxy's HTTP layers on a Unix socket, without what must not reach a client.

A fresh connection to the replica for each request, what it says strained, errors as a word to the lane in place of
pages that name mitmproxy and the replica's address. Importing this module registers the mode `oton-inspect`.
"""

from __future__ import annotations

import asyncio
import logging
from socket import socket
from typing import Any

from mitmproxy import ctx
from mitmproxy.connection import Address, ConnectionState, Server
from mitmproxy.proxy import commands, events, layer, server_hooks
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode
from mitmproxy.proxy.layers.http._events import ErrorCode, ResponseHeaders, ResponseProtocolError
from mitmproxy.proxy.layers.http._http1 import Http1Server
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler, ServerInstance
from mitmproxy.proxy.mode_specs import ProxyMode

from controller.proxy.detour import TROUBLE
from controller.proxy.inspector.strain import AnswerStrainer, ClientStrainer
from controller.proxy.limits import Limits
from controller.proxy.replies import AnswerReader
from controller.proxy.sockets import was_reset

_LIMITS = Limits()
_READER = AnswerReader(_LIMITS.answer_header_count)
NOWHERE = ("", 0)
"""Where a request goes whose replica was not named."""


def render_trouble(kind: str, why: str = "") -> bytes:
    """Return the word to the lane that stands in place of an answer; it ends the connection."""
    text = f"{kind} {why}".strip().encode("latin-1", "replace")
    text = bytes(byte if 32 <= byte < 127 else 63 for byte in text)[:200]
    return b"HTTP/1.1 502 Trouble\r\n%b: %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % (TROUBLE, text)


def _judge(event: ResponseProtocolError) -> tuple[str, str]:
    if event.code is ErrorCode.CONNECT_FAILED:
        return "connect", "refused"
    if event.code is ErrorCode.KILL:
        return "killed", ""
    if event.code in (ErrorCode.REQUEST_VALIDATION_FAILED, ErrorCode.GENERIC_CLIENT_ERROR):
        return "request", event.message
    return "broken", "closed"


class LaneSide(Http1Server):
    """The lane's end of a flow."""

    def send(self, event: Any) -> layer.CommandGenerator[None]:
        """Send an event on; errors without their page."""
        if isinstance(event, ResponseProtocolError) and event.code is not ErrorCode.PASSTHROUGH_CLOSE:
            if self.conn.state & ConnectionState.CAN_WRITE:
                if not self.response:
                    yield commands.SendData(self.conn, render_trouble(*_judge(event)))
                yield commands.CloseConnection(self.conn)
            return
        if isinstance(event, ResponseHeaders) and _server is not None and _server.retiring:
            event.response.headers["Connection"] = "close"
        yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Read a request's head; what mitmproxy refuses is told by a word, too."""
        for command in super().read_headers(event):
            is_page = isinstance(command, commands.SendData) and command.connection is self.conn
            yield commands.SendData(self.conn, render_trouble("request", "refused")) if is_page else command


class FlowLayer(HttpLayer):
    """mitmproxy's HTTP layer with our end towards the lane, and never a connection to a replica used twice."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            # mitmproxy keeps an end that is there already (its replay needs that).
            self.connections[self.context.client] = LaneSide(self.context.fork())
        yield from super()._handle_event(event)

    def get_connection(self, event: Any, *, reuse: bool = True) -> layer.CommandGenerator[None]:
        """Open a new connection: bytes that a replica sends beyond its answer can never become another's answer."""
        yield from super().get_connection(event, reuse=False)


class _Writer:
    """Tells the strainer what was asked, and mitmproxy nothing new."""

    def __init__(self, writer: asyncio.StreamWriter, strainer: AnswerStrainer) -> None:
        self._writer = writer
        self._strainer = strainer
        self._asked = False

    def write(self, data: bytes) -> None:
        if not self._asked:
            self._asked = True
            self._strainer.note_request(data)
        self._writer.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


class Handler(ProxyConnectionHandler):
    """One connection of the lane."""

    def __init__(self, reader: Any, writer: Any, mode: ProxyMode) -> None:
        self._lane = ClientStrainer(reader)
        super().__init__(ctx.master, self._lane, _Named(writer), ctx.options, mode)  # type: ignore[no-untyped-call]

    async def open_connection(self, command: commands.OpenConnection) -> None:
        """Connect to the replica, or give up as soon as the lane would."""
        task = asyncio.current_task()
        timer = asyncio.get_running_loop().call_later(_LIMITS.connect_s, self._give_up, command.connection, task)
        try:
            await super().open_connection(command)
        finally:
            timer.cancel()

    def _give_up(self, connection: Any, task: asyncio.Task[Any] | None) -> None:
        if task is not None and connection.state is ConnectionState.CLOSED:
            task.cancel("connect timed out")

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Run a hook; before the first byte goes to a replica, what comes from it is strained."""
        if isinstance(hook, server_hooks.ServerConnectedHook):
            self._strain(hook.data.server)
        await super().handle_hook(hook)

    def _strain(self, server: Server) -> None:
        io: Any = self.transports[server]
        transport = io.writer.transport
        strainer = AnswerStrainer(io.reader, lambda: was_reset(transport), _READER, _LIMITS.answer_header_bytes)
        strainer.on_upgrade = self._lane.watch_frames
        io.reader = strainer
        io.writer = _Writer(io.writer, strainer)

    def log(self, message: str, level: int = logging.INFO, exc_info: Any = None) -> None:
        """Log; where a layer has crashed, end the connection instead of leaving it to hang."""
        super().log(message, level, exc_info)
        if level >= logging.ERROR and self.client in self.transports:
            writer: Any = self.transports[self.client].writer
            writer.transport.abort()


class _Named:
    """A stream writer that has a peer; a Unix socket's has no name, which mitmproxy cannot print."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name in ("peername", "sockname"):
            return ("127.0.0.1", 0)
        return self._writer.get_extra_info(name, default)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


class InspectMode(ProxyMode):  # type: ignore[no-untyped-call]
    """The mode `inspect`: the lane's requests on a Unix socket."""

    type_name = "oton-inspect"
    description = "Oton inspector"
    transport_protocol = "tcp"
    default_port = None

    def __post_init__(self) -> None:
        if self.data:
            raise ValueError("mode oton-inspect takes no arguments")


class InspectServer(ServerInstance[InspectMode]):  # type: ignore[no-untyped-call]
    """The server that mitmproxy starts for the mode, on the socket that `listen_on` named."""

    retiring = False
    """Every answer ends its connection."""
    _server: asyncio.Server | None = None

    @property
    def is_running(self) -> bool:
        """Say whether it listens."""
        return self._server is not None

    @property
    def listen_addrs(self) -> tuple[Address, ...]:
        """Return where it listens, as far as mitmproxy can say that."""
        return ()

    async def _start(self) -> None:
        global _server  # noqa: PLW0603 - mitmproxy makes the instance itself
        _server = self
        if _socket is None:
            raise RuntimeError("mode oton-inspect needs a socket")
        self._server = await asyncio.start_unix_server(self._accept, sock=_socket, limit=_LIMITS.buffer_bytes)

    async def _stop(self) -> None:
        self.close()

    def close(self) -> None:
        """Stop accepting."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = Handler(reader, writer, self.mode)
        handler.layer = self.make_top_layer(handler.layer.context)
        _handlers.add(handler)
        try:
            await handler.handle_client()
        finally:
            _handlers.discard(handler)

    def make_top_layer(self, context: Context) -> layer.Layer:
        """Return mitmproxy's HTTP layer: the lane speaks nothing else."""
        context.server.address = NOWHERE
        return FlowLayer(context, HTTPMode.transparent)


_socket: socket | None = None
_server: InspectServer | None = None
_handlers: set[Handler] = set()


def listen_on(sock: socket) -> None:
    """Say on which socket the mode's server listens."""
    global _socket  # noqa: PLW0603 - as above
    _socket = sock


def retire() -> None:
    """Accept nothing new, and end each connection with the answer that it waits for."""
    if _server is not None:
        _server.retiring = True
        _server.close()


def count_open() -> int:
    """Return how many connections of the lane are open."""
    return len(_handlers)
