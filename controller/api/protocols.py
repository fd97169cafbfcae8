"""
How HTTP and WebSockets are spoken on an accepted connection: who is on the other end, and how patient we are.

uvicorn bounds neither a head's length nor its time nor a body's pace; here each has an end, for everybody alike.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from controller.api.auth import PEER, PINNED
from controller.api.problems import render_problem

PIN = b"OTON-TOKEN "
"""How a connection on the socket begins whose requests all have one token."""
PIN_BYTES = 200
HEAD_BYTES = 65_536
"""A request's line and headers, a URL to explain of 4,096 characters included; longer: 431."""
KINDS = {400: "bad-request", 408: "too-slow", 431: "too-large"}
HEAD_COUNT = 100
"""Header lines of a request; more: 431."""
HEAD_S = 10.0
"""From a connection's start, or a request's first byte, to the end of its head; later: 408."""
BODY_BYTES_PER_S = 500
"""Slowest pace of a body over a look; slower: cut."""
READER_S = 30.0
"""How long a client without a token may leave an answer unread; longer: cut."""
LINGER_S = 5.0
"""How long the rest of a body is taken that nobody wants, so that its sender can read the answer."""
LOOK_S = 2.0
"""How often a connection is held against all of these."""
BODY_LOOKS = 5
"""Looks over which a body's pace is taken."""
HUNG_UP = getattr(select, "POLLRDHUP", 0)
SLICE = 16_384
"""Bytes that are parsed at once; a head is measured to within this."""


def peer_of(transport: asyncio.BaseTransport) -> tuple[str, int] | None:
    """Return the uid (as a client's name) and pid of a Unix socket's other end; None on TCP."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    if not hasattr(socket, "SO_PEERCRED"):
        return f"{PEER}{os.geteuid()}", 0
    with suppress(OSError):
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return f"{PEER}{uid}", pid
    return None


class TooMuchError(Exception):
    """A head has more lines than it may."""


class PeerHttp(HttpToolsProtocol):
    """
    HTTP that names the user on the other end of the socket as the client, and waits for nobody for ever.

    A connection on the socket may begin with a line `OTON-TOKEN oton_…`: then all its requests have that token's
    rights, whatever they say themselves. `dial-stdio --token-file` limits an ssh key by it.
    """

    _held: bytes | None = b""
    _look: asyncio.TimerHandle | None = None
    _head_since: float | None = None
    """Since when a head is awaited or under way."""
    _head_bytes = 0
    _is_open = False
    """A message is under way: its head or its body."""
    _body_bytes = 0
    _body_looks = 0
    _unread_since: float | None = None
    """Since when the client leaves an answer unread."""
    _unwanted_since: float | None = None
    """Since when the rest of a body comes that nobody wants."""

    def connection_made(self, transport: Any) -> None:
        """Note who connected, and since when."""
        super().connection_made(transport)
        peer = peer_of(transport)
        self.client = peer or self.client
        self._held = b"" if peer is not None else None
        self.app_state = {**self.app_state, "hang_up": transport.abort, "gone": asyncio.Event()}
        self._head_since = self.loop.time()
        self._look = self.loop.call_later(LOOK_S, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        super().connection_lost(exc)
        if self._look is not None:
            self._look.cancel()

    def data_received(self, data: bytes) -> None:
        """Take a first line that pins the token out of what arrives, and parse the rest in small pieces."""
        if self._held is not None:
            data = self._take_pin(data)
        for at in range(0, len(data), SLICE):
            if self.transport.is_closing() or self.transport.get_protocol() is not self:
                return
            self._parse(data[at : at + SLICE])

    def _parse(self, piece: bytes) -> None:
        super().data_received(piece)
        if self._head_since is None and not self._is_open and not self._is_answering():
            self._head_since = self.loop.time()  # an empty line only: it must not buy time
        if self._head_since is not None:
            self._head_bytes += len(piece)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431, "The request's line and headers are too long.")

    def _take_pin(self, data: bytes) -> bytes:
        self._held = (self._held or b"") + data
        if len(self._held) < len(PIN) and PIN.startswith(self._held):
            return b""
        head, self._held = self._held, None
        if not head.startswith(PIN):
            return head
        line, ended, rest = head.partition(b"\n")
        if ended:
            self.client = (PINNED + line.removeprefix(PIN).decode("latin-1").strip(), 0)
            return rest
        if len(line) < PIN_BYTES:
            self._held = line
        else:
            self._refuse(400, "The first line is too long.")
        return b""

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._is_open = True
        self._head_bytes = 0
        self._head_since = self.loop.time() if self._head_since is None else self._head_since

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header line. Raises TooMuchError beyond the limit."""
        super().on_header(name, value)
        if len(self.headers) > HEAD_COUNT:
            raise TooMuchError

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._head_since = None
        self._body_bytes = self._body_looks = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count what comes of a body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._is_open = False
        self._unwanted_since = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is out; where its request is not whole yet, the rest is taken for a short while only."""
        super().on_response_complete()
        if self._is_open:
            self._unwanted_since = self.loop.time()
            if self.expect_100_continue:
                self.transport.close()  # whether the body comes now cannot be told

    def pause_writing(self) -> None:
        """The client does not read as fast as we answer."""
        super().pause_writing()
        self._unread_since = self.loop.time()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._unread_since = None

    def send_400_response(self, msg: str) -> None:
        """Answer a request that cannot be read."""
        if self._is_open and len(self.headers) > HEAD_COUNT:
            self._refuse(431, "The request has too many headers.")
        else:
            self._refuse(400, msg)

    def _cycle(self) -> RequestResponseCycle | None:
        """Return the newest request with its answer; there is none before the first."""
        return self.cycle

    def _is_answering(self) -> bool:
        cycle = self._cycle()
        return cycle is not None and not cycle.response_complete

    def _refuse(self, status: int, text: str) -> None:
        if self._is_answering():
            self.transport.abort()  # an earlier answer is under way
            return
        answer = render_problem(status, KINDS[status], text)
        head = b"".join(name + b": " + value + b"\r\n" for name, value in answer.raw_headers)
        self.transport.write(STATUS_LINE[status] + head + b"connection: close\r\n\r\n" + bytes(answer.body))
        self.transport.close()

    def _check(self) -> None:
        """Hold the connection against every limit that is a time."""
        if self.transport.get_protocol() is not self:
            return
        if self.transport.is_closing():
            self.transport.abort()  # what it has not read since the last look it will not read
            return
        now = self.loop.time()
        self._look = self.loop.call_later(LOOK_S, self._check)
        if self._head_since is not None and now - self._head_since > HEAD_S:
            self._refuse(408, "The request's line and headers took too long.")
        elif self._is_too_late(now) or self._is_too_slow():
            self.transport.abort()

    def _is_too_late(self, now: float) -> bool:
        cycle = self._cycle()
        is_known = cycle is not None and "caller" in cycle.scope["state"]
        leaves_unread = self._unread_since is not None and now - self._unread_since > READER_S and not is_known
        goes_on = self._unwanted_since is not None and now - self._unwanted_since > LINGER_S
        return leaves_unread or goes_on

    def _is_too_slow(self) -> bool:
        """Say whether a body comes so slowly that its sender only wants to be waited for."""
        is_awaited = self._is_open and self._head_since is None and not self.flow.read_paused
        if not is_awaited:
            self._body_bytes = self._body_looks = 0
            return False
        self._body_looks += 1
        if self._body_looks < BODY_LOOKS:
            return False
        taken, self._body_bytes, self._body_looks = self._body_bytes, 0, 0
        return taken < BODY_BYTES_PER_S * BODY_LOOKS * LOOK_S


class PeerWebSocket(WSProtocol):
    """WebSocket that names the user on the other end of the socket as the client, and notices when it has gone."""

    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Note who connected."""
        before = transport.get_protocol()
        super().connection_made(transport)
        # An upgraded connection stays whose it was: a pinned token above all.
        self.client = before.client if isinstance(before, PeerHttp) else peer_of(transport) or self.client
        self._look = self.loop.call_later(LOOK_S / 4, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever carries bytes."""
        super().connection_lost(exc)
        self.app_state["gone"].set()
        if self._look is not None:
            self._look.cancel()

    def _check(self) -> None:
        """Find out whether the client has gone while nothing is read from it: the loop would not say."""
        if self.read_paused and has_hung_up(self.transport):
            self.app_state["gone"].set()
            return
        self._look = self.loop.call_later(LOOK_S / 4, self._check)


def has_hung_up(transport: asyncio.BaseTransport) -> bool:
    """Say whether the other end of a connection has closed it, whatever still waits to be read."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), HUNG_UP)
    return any(happened & (HUNG_UP | select.POLLHUP | select.POLLERR) for _, happened in poll.poll(0))
