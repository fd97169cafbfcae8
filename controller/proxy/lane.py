"""One client's connection: heads are framed and checked, requests go on one at a time, nothing else is read."""

from __future__ import annotations

import asyncio
from time import monotonic

from controller.proxy.accesslog import render_refusal
from controller.proxy.answers import render_answer
from controller.proxy.core import Connection, Core
from controller.proxy.exchange import Exchange
from controller.proxy.framing import BadMessage, skip_empty_lines
from controller.proxy.heads import Head
from controller.proxy.sockets import ReaderPace, plain_address, render_forwarded, reset_on_close
from controller.proxy.tls import Certificate, Handshake, certificate_of
from controller.proxy.tunnel import Tunnel
from controller.proxy.turns import HEAD_BYTES, REQUEST, Inlet
from controller.proxy.wheel import NEVER
from controller.routing.match import BadTarget


class Client(asyncio.Protocol):
    """A connection from the public side."""

    def __init__(self, core: Core, port: int, *, tls: bool = False, newcomer: Connection | None = None) -> None:
        self.core = core
        self._newcomer = newcomer
        """Who was counted for this connection while it shook hands."""
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
        self._inlet: Inlet = None  # type: ignore[assignment]
        self._pace: ReaderPace = None  # type: ignore[assignment]
        self._records: Handshake | None = None
        self._buffer = b""
        """What has come and is not worked off."""
        self._exchange: Exchange | None = None
        self._tunnel: Tunnel | None = None
        self._counted = False
        self._working = False
        self._parted = False
        """The last answer was given: nothing more that comes is read as a request."""
        self._eof = False
        self._head_due = NEVER
        self._certificate: Certificate | None = None
        """What the client was shown; a request for a host beyond it is 421."""

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        limits = self.core.limits
        self.address = plain_address(transport.get_extra_info("peername"))
        self.forwarded = render_forwarded(self.address, self.port, tls=self.tls)
        self._transport.set_write_buffer_limits(high=limits.buffer_bytes)
        self._inlet = Inlet(self._transport, self.core.turns, self._work)
        self._pace = ReaderPace(self._transport, limits)
        if self._newcomer is not None:
            self.core.hand_over(self._newcomer, self)
            self._newcomer = None
        elif not self.core.arrived(self, self.address):
            self._transport.abort()
            return
        self._counted = True
        if self.tls:
            self._records = transport.get_extra_info("ssl_object")
            self._certificate = certificate_of(self._records)
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
        if self.tls or self._tunnel is not None or self._parted:
            return False
        if self._exchange is None:
            return self._inlet.waits or self._pace.full  # what has come is still worked off
        return self._exchange.half_closed()

    def pause_writing(self) -> None:
        self._pace.begin(monotonic())
        self._await_reader()

    def _await_reader(self) -> None:
        """Let nothing more be sent before the client has read, or its time is over."""
        due = self._pace.due
        if self._tunnel is not None:
            self._tunnel.pause(due)
        elif self._exchange is not None:
            self._exchange.pause_answer(due)
        else:
            self.core.wheel.arm(self, min(self.due, due))

    def resume_writing(self) -> None:
        self._pace.full = False
        if self._tunnel is not None:
            self._tunnel.resume()
        elif self._exchange is not None:
            self._exchange.resume_answer()
        else:
            self._work()

    def data_received(self, data: bytes) -> None:
        if not self._parted:
            self._buffer = self._buffer + data if self._buffer else data
            if not self._inlet.waits:
                self._work()
        if self._records is not None and self._records.is_spent():
            self._inlet.wait()

    # What an exchange asks.

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        self._transport.write(data)

    def stop_reading(self) -> None:
        """Read no more until `start_reading`."""
        self._inlet.stop()

    def start_reading(self) -> None:
        """Read again."""
        self._inlet.start()

    def is_stopped(self) -> bool:
        """Say whether reading is stopped."""
        return self._inlet.stopped

    def finished(self, now: float) -> None:
        """The exchange is over: take the next request, or close."""
        exchange, self._exchange = self._exchange, None
        if self.closing or (self._eof and not self._buffer):
            self._part(clean=(exchange is None or exchange.body_done) and not self._buffer)
            return
        self._head_due = NEVER
        due = now + (_RETIRE_IDLE_S if self.core.retiring else self.core.limits.keepalive_s)
        if due < self.parked:
            self.core.wheel.arm(self, due)
        else:
            self.due = due
        if self._buffer or self._inlet.stopped:
            self._work()

    def become_tunnel(self, tunnel: Tunnel) -> None:
        """Hand every byte from now on to *tunnel*, and what had arrived already."""
        self._tunnel = tunnel
        self.start_reading()
        self._work()

    def close(self) -> None:
        """Close once what was written has been sent."""
        self.closing = True
        self._transport.close()
        self.core.wheel.arm(self, monotonic() + self.core.limits.pace_window_s)

    def cut(self) -> None:
        """Reset the connection, so that nobody takes a cut answer for a whole one."""
        if not self.tls:
            reset_on_close(self._transport)
        self._transport.abort()

    def retire(self) -> None:
        """Take no further request after the present one, or after the one that may be on its way now."""
        # Not `closing`: an answer whose head has gone out promised the client one more request, and that one's answer
        # says that it was the last.
        if self._exchange is None and not self._parted:
            self.core.wheel.arm(self, min(self.due, monotonic() + _RETIRE_IDLE_S))

    def end_stream(self) -> None:
        """End an event stream or a WebSocket in good order, if this is one."""
        if self._exchange is not None:
            self._exchange.end_stream()

    def expire(self, now: float) -> None:
        """A deadline passed."""
        if self._pace.full and now >= self._pace.due:
            self._check_reader(now)
        elif self._exchange is not None:
            if self._transport.is_closing():
                self._transport.abort()
            else:
                self._exchange.expire(now)
        elif self._parted or self._transport.is_closing() or not self._buffer:
            self._transport.abort()
        else:
            self._refuse(BadMessage("headers took too long", 408), self._buffer)

    def _check_reader(self, now: float) -> None:
        if self._pace.keeps_up(now):
            self._await_reader()
        elif self._exchange is not None:
            self._exchange.cut("client does not read")
        else:
            self.cut()

    # Requests.

    def _work(self) -> None:
        """Work off what has come until it waits for an answer, for more bytes, or for the next turn of the loop."""
        if self._working or self._inlet.waits:
            return
        self._working = True
        turns = self.core.turns
        turns.begin()
        while self._buffer and self._step():
            if turns.left <= 0 and self._buffer:
                self._inlet.wait()
                break
        self._working = False
        if not self._inlet.waits:
            self._look_ahead()

    def _step(self) -> bool:
        """Take the next thing off what has come; False where it has to wait."""
        exchange = self._exchange
        if self._tunnel is not None:
            self._buffer = self._tunnel.from_client(self._buffer)
        elif exchange is None:
            return not (self._pace.full or self._parted) and self._take_request()
        elif exchange.body_done:
            # A pipelined request: it waits, and so does everything after it.
            self.stop_reading()
            return False
        else:
            self._buffer = exchange.take_body(self._buffer)
        return True

    def _take_request(self) -> bool:
        """Begin the next request if its head is whole."""
        try:
            if self._buffer[:1] == b"\r":
                self._buffer = skip_empty_lines(self._buffer)
            head = self.core.heads.read(self._buffer)
            if head is None:
                return False
            self._begin(head)
        except (BadMessage, BadTarget) as error:
            self._refuse(error, self._buffer)
        return True

    def _look_ahead(self) -> None:
        """Say how this goes on where what has come is worked off."""
        exchange = self._exchange
        if self._eof and not self._parted and self._tunnel is None:
            if exchange is None and not self._pace.full:
                self._part(clean=True)  # it was the start of something that will never be whole
            elif exchange is not None and not exchange.half_closed():
                self._transport.close()
        elif exchange is None:
            if self._buffer:
                self._wait_for_head()
            if not self._pace.full:
                self.start_reading()

    def _begin(self, head: Head) -> None:
        """Begin the request whose head is read."""
        method, target, name, fields, end = head
        live = self.core.live
        match = live.find(name, target)
        now = monotonic()
        self._buffer = self._buffer[end:]
        if self._buffer:
            self.core.turns.left -= REQUEST + end // HEAD_BYTES
        exchange = self._exchange = Exchange(self, self.core, method, target, fields, now)
        if fields.last:
            self.closing = True
        if match is None or (self._certificate is not None and not self._certificate.covers(name)):
            if fields.has_body:
                exchange.body_done = False
            exchange.refuse(404 if self._certificate is None or self._certificate.covers(name) else 421)
        else:
            exchange.begin(match.rule, live.apps[match.app], now)

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
        self._parted = True
        self._buffer = b""
        if clean or self._eof or self._transport.is_closing():
            self.close()
            return
        # Closing with unread bytes would reset the connection and take the answer away from the client.
        self.start_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self.core.wheel.arm(self, monotonic() + self.core.limits.linger_s)


_RETIRE_IDLE_S = 5.0
"""A client that is told to go by nothing but silence may have a request on its way."""
