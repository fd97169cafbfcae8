"""One client's connection: heads are framed and checked, requests go on one at a time, nothing else is read."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from time import monotonic

from controller.proxy.accesslog import render_refusal
from controller.proxy.answers import render_answer
from controller.proxy.core import Core
from controller.proxy.exchange import Exchange
from controller.proxy.framing import BadMessage
from controller.proxy.heads import Head
from controller.proxy.tls import Certificate, certificate_of
from controller.proxy.tunnel import Tunnel
from controller.proxy.wheel import NEVER
from controller.routing.match import BadTarget

_RESET = struct.pack("ii", 1, 0)


class Client(asyncio.Protocol):
    """A connection from the public side."""

    def __init__(self, core: Core, port: int, *, tls: bool = False) -> None:
        self.core = core
        self.port = port
        """Where it came in."""
        self.tls = tls
        self.due = NEVER
        self.parked = NEVER
        self.address = ""
        self.forwarded = b""
        self.trusted = False
        self.closing = False
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._buffer = b""
        self._exchange: Exchange | None = None
        self._tunnel: Tunnel | None = None
        self._counted = False
        self._stopped = False
        self._full = False
        self._unread = 0
        self._reader_due = NEVER
        self._pumping = False
        self._lingering = False
        self._eof = False
        self._head_due = NEVER
        self._certificate: Certificate | None = None
        """What the client was shown; a request for a host beyond it is 421."""

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        limits = self.core.limits
        self.address = _plain_address(transport.get_extra_info("peername"))
        scheme, tail = b"https" if self.tls else b"http", b"X-Forwarded-Port: %d\r\n" % self.port
        self.forwarded = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (self.address.encode(), scheme) + tail
        self._transport.set_write_buffer_limits(high=limits.buffer_bytes)
        if not self.core.arrived(self, self.address):
            self._transport.abort()
            return
        self._counted = True
        if self.tls:
            self._certificate = certificate_of(transport.get_extra_info("ssl_object"))
        self.trusted = self.core.is_trusted(self.address)
        self._head_due = monotonic() + limits.header_s
        self.core.wheel.arm(self, self._head_due)
        if self.core.retiring:
            self.closing = True

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        if self._tunnel is not None:
            self._tunnel.client_lost()
        elif exchange is not None:
            exchange.abandon()
        if self._counted:
            self._counted = False
            self.core.departed(self, self.address)
        self.core.wheel.forget(self)

    def eof_received(self) -> bool:
        self._eof = True
        exchange = self._exchange
        if self.tls or self._tunnel is not None or exchange is None or self._lingering:
            return False
        return exchange.half_closed()

    def pause_writing(self) -> None:
        self._full = True
        self._unread = self._transport.get_write_buffer_size()
        self._reader_due = monotonic() + self.core.limits.reader_window_s
        if self._tunnel is not None:
            self._tunnel.pause(self._reader_due)
        elif self._exchange is not None:
            self._exchange.pause_answer(self._reader_due)
        else:
            self.core.wheel.arm(self, min(self.due, self._reader_due))

    def resume_writing(self) -> None:
        self._full = False
        if self._tunnel is not None:
            self._tunnel.resume()
        elif self._exchange is not None:
            self._exchange.resume_answer()
        else:
            self._pump(self._buffer)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            if self._lingering:
                return
            self._pump(self._buffer + data if self._buffer else data)
        elif self._tunnel is not None:
            self._tunnel.from_client(data)
        elif exchange.body_done:
            # A pipelined request: it waits, and so does everything after it.
            self._buffer += data
            self.stop_reading()
        else:
            self._buffer = exchange.take_body(data)

    # What an exchange asks.

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        self._transport.write(data)

    def stop_reading(self) -> None:
        """Read no more until `start_reading`."""
        if not self._stopped:
            self._stopped = True
            self._transport.pause_reading()

    def start_reading(self) -> None:
        """Read again."""
        if self._stopped:
            self._stopped = False
            self._transport.resume_reading()

    def is_stopped(self) -> bool:
        """Say whether reading is stopped."""
        return self._stopped

    def finished(self, now: float) -> None:
        """The exchange is over: take the next request, or close."""
        exchange, self._exchange = self._exchange, None
        if self.closing or self._eof:
            self._part(clean=(exchange is None or exchange.body_done) and not self._buffer)
            return
        self._head_due = NEVER
        due = now + (_RETIRE_IDLE_S if self.core.retiring else self.core.limits.keepalive_s)
        if due < self.parked:
            self.core.wheel.arm(self, due)
        else:
            self.due = due
        if not self._pumping and (self._buffer or self._stopped):
            self._pump(self._buffer)

    def become_tunnel(self, tunnel: Tunnel) -> bytes:
        """Hand every byte from now on to *tunnel*; returns what had arrived already."""
        self._tunnel = tunnel
        early, self._buffer = self._buffer, b""
        self.start_reading()
        return early

    def close(self) -> None:
        """Close once what was written has been sent."""
        self.closing = True
        self._transport.close()
        self.core.wheel.arm(self, monotonic() + self.core.limits.pace_window_s)

    def cut(self) -> None:
        """Reset the connection, so that nobody takes a cut answer for a whole one."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None and not self.tls:
            with contextlib.suppress(OSError):  # it is closed already
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def retire(self) -> None:
        """Take no further request after the present one, or after the one that may be on its way now."""
        # Not `closing`: an answer whose head has gone out promised the client one more request, and that one's answer
        # says that it was the last.
        if self._exchange is None and not self._lingering:
            self.core.wheel.arm(self, min(self.due, monotonic() + _RETIRE_IDLE_S))

    def end_stream(self) -> None:
        """End an event stream or a WebSocket in good order, if this is one."""
        if self._exchange is not None:
            self._exchange.end_stream()

    def expire(self, now: float) -> None:
        """A deadline passed."""
        if self._full and now >= self._reader_due:
            self._check_reader(now)
        elif self._exchange is not None:
            if self._transport.is_closing():
                self._transport.abort()
            else:
                self._exchange.expire(now)
        elif self._lingering or self._transport.is_closing() or not self._buffer:
            self._transport.abort()
        else:
            self._refuse(BadMessage("headers took too long", 408), self._buffer)

    def _check_reader(self, now: float) -> None:
        limits = self.core.limits
        unread = self._transport.get_write_buffer_size()
        if self._unread - unread >= limits.body_bytes_per_s * limits.reader_window_s:
            self._unread = unread
            self._reader_due = now + limits.reader_window_s
            if self._tunnel is not None:
                self._tunnel.pause(self._reader_due)
            elif self._exchange is not None:
                self._exchange.pause_answer(self._reader_due)
            else:
                self.core.wheel.arm(self, self._reader_due)
        elif self._exchange is not None:
            self._exchange.cut("client does not read")
        else:
            self.cut()

    # Requests.

    def _pump(self, data: bytes) -> None:
        """Begin requests while there are whole heads and no answer is open; the rest of *data* waits."""
        self._pumping = True
        while data and self._exchange is None and not (self._full or self._lingering):
            if data.startswith(b"\r\n"):
                data = data[2:]  # what old clients leave behind a body; one is enough
            try:
                head = self.core.heads.read(data)
                if head is None:
                    break
                data = self._begin(head, data)
            except (BadMessage, BadTarget) as error:
                refused, data = data, b""
                self._refuse(error, refused)
        self._pumping = False
        self._buffer = data
        if data and self._exchange is None:
            self._wait_for_head()
        if self._stopped and self._exchange is None and not self._full:
            self.start_reading()

    def _begin(self, head: Head, data: bytes) -> bytes:
        """Begin the request whose head is read; return what does not belong to it."""
        method, target, name, fields, end = head
        live = self.core.live
        match = live.find(name, target)
        now = monotonic()
        exchange = self._exchange = Exchange(self, self.core, method, target, fields, now)
        rest = data[end:]
        if fields.last:
            self.closing = True
        if match is None or (self._certificate is not None and not self._certificate.covers(name)):
            if fields.has_body:
                exchange.body_done = False
            exchange.refuse(404 if self._certificate is None or self._certificate.covers(name) else 421)
            return rest
        exchange.begin(match.rule, live.apps[match.app], now)
        if rest and fields.has_body and self._exchange is exchange:
            return exchange.take_body(rest)
        return rest

    def _wait_for_head(self) -> None:
        if self._head_due == NEVER:
            self._head_due = monotonic() + self.core.limits.header_s
            self.core.wheel.arm(self, self._head_due)

    def _refuse(self, error: BadMessage | BadTarget, data: bytes) -> None:
        """Answer a request that could not be read; nothing else on this connection is read as one."""
        bad = error if isinstance(error, BadMessage) else BadMessage(str(error))
        self.closing = True
        name = self.core.make_id().decode()
        self.write(render_answer(bad.status, name, close=True))
        self.core.meter.count("", 0, bad.status, 0.0, 0, 0)
        if self.core.access_log is not None:
            shown = self.core.log_query
            self.core.access_log(render_refusal(name, self.address, data, bad.status, bad.why, shows_query=shown))
        self._part(clean=False)

    def _part(self, *, clean: bool) -> None:
        """Close; where the client may still be sending, only after it had time to read the answer."""
        if clean or self._eof or self._transport.is_closing():
            self.close()
            return
        # Closing with unread bytes would reset the connection and take the answer away from the client.
        self._lingering = True
        self._buffer = b""
        self.start_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self.core.wheel.arm(self, monotonic() + self.core.limits.linger_s)


_RETIRE_IDLE_S = 5.0
"""A client that is told to go by nothing but silence may have a request on its way."""


def _plain_address(peer: object) -> str:
    if not isinstance(peer, tuple):
        return "unix"
    address = str(peer[0])
    return address[7:] if address.startswith("::ffff:") and "." in address else address.partition("%")[0]
