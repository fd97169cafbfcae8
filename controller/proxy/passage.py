"""
The straight way of a request to a replica and of its answer back: `begin`, `_go`, `_send`, `answered`, `_finish`.

It is told of bytes by its client's connection and by its link; it never waits. What happens when the way is not
straight is `exchange`'s.
"""

from __future__ import annotations

from time import monotonic
from typing import Protocol

from controller.proxy.accesslog import render_line
from controller.proxy.answers import render_answer
from controller.proxy.app import App
from controller.proxy.chunks import render_chunk
from controller.proxy.core import Core
from controller.proxy.doors import Refusal, Waiting
from controller.proxy.framing import Fields
from controller.proxy.link import Link
from controller.proxy.pool import Pool
from controller.proxy.replies import Answer
from controller.proxy.request import IDEMPOTENT, Request, Sender
from controller.proxy.stream import EventStream
from controller.proxy.tunnel import Near, Tunnel
from controller.proxy.wheel import NEVER
from controller.routing.table import Rule

_BODYLESS = frozenset((204, 304))


class Caller(Sender, Near, Protocol):
    """The client's connection, as an exchange sees it."""

    closing: bool

    def is_stopped(self) -> bool: ...
    def finished(self, now: float) -> None: ...
    def become_tunnel(self, tunnel: Tunnel) -> bytes: ...


class Passage(Request):
    """One request and its answer, as long as nothing goes wrong."""

    app: App
    rule: Rule
    pool: Pool | None = None
    link: Link | None = None
    tunnel: Tunnel | None = None
    stream: EventStream | None = None
    status = 0
    release = 0
    retries = 0
    bytes_out = 0
    held_bytes = 0
    checked = False
    wants_tunnel = False
    sent = False
    """The head went to the link that is in use now."""
    why = ""
    """What went wrong, for the log."""
    is_over = False
    is_held = False
    routed = False
    """A rule matched, so `app` and `rule` are there."""
    _counted = False
    _attempts = 0
    _hold_due = NEVER
    _leave: tuple[float, float, float] | None = None
    _leave_due = NEVER
    _cap = NEVER
    """No deadline is later than this: the drain's, or that of a client that does not read."""
    _end_due = NEVER
    _chunk_out = False
    _paced = 0
    _waits = False
    """For a password to be checked."""
    _asked_old = False
    _sticky = b""

    def __init__(self, client: Caller, core: Core, method: bytes, target: bytes, fields: Fields, now: float) -> None:
        # The base's constructor written out: this runs for every request.
        self.sender = client
        self.method = method
        self.target = target
        self.fields = fields
        self.id = fields.request_id or core.make_id()
        self.head_only = method == b"HEAD"
        self.client = client
        self.core = core
        self.started = now

    # Towards a replica.

    def begin(self, rule: Rule, app: App, now: float) -> None:
        """Send the request on its way to a replica of *app*, or answer it."""
        self.rule = rule
        self.app = app
        self.routed = True
        fields = self.fields
        if fields.has_body:
            self.expect_body()
            if fields.length is not None and fields.length > app.routes.policy.body_limit_bytes:
                self.refuse(413)
                return
        elif fields.websocket:
            self.wants_tunnel = self.method == b"GET"
        if app.door.checks and not self._pass_door(now):
            return
        self._admit(now)

    def _pass_door(self, now: float) -> bool:
        try:
            refusal = self.app.door.check(self, now)
        except Waiting as waiting:
            self._waits = True
            waiting.begin(self._password_checked)
            return False
        if refusal is not None:
            self._answer_refusal(refusal)
        return refusal is None

    def _password_checked(self, right: bool) -> None:
        self._waits = False
        if self.is_over:
            return
        self.checked = right
        if right:
            self._admit(monotonic())
        else:
            self._answer_refusal(self.app.door.unauthorised())

    def _answer_refusal(self, refusal: Refusal) -> None:
        self.refuse(refusal.status, headers=refusal.headers)

    def _admit(self, now: float) -> None:
        """Let the request through by the app's mode: to a replica, into the queue, or to an answer."""
        app = self.app
        routes = app.routes
        if routes.mode != "serve" and self.rule.group == "live":
            if routes.mode == "hold":
                self._hold(app, now)
                return
            if not self._counted:
                self.refuse(503, message=routes.message, headers=(("Retry-After", "30"),))
                return
        if not self._counted:
            if app.in_flight >= routes.policy.max_in_flight:
                self.refuse(429, headers=(("Retry-After", "1"),))
                return
            self._counted = True
            app.in_flight += 1
            app.budget.requests += 1
        self._dispatch(None, now)

    def _dispatch(self, avoid: Pool | None, now: float) -> None:
        app = self.app
        pool = app.pick(self.rule.group, self._read_cookie() if app.marks else "", avoid)
        if pool is None:
            self.refuse(503, headers=(("Retry-After", "5"),))
            return
        if app.marks:
            self._mark(app, pool)
        self._go(pool, now)

    def _go(self, pool: Pool, now: float) -> None:
        pool.active += 1
        pool.open.add(self)
        self.pool = pool
        self.release = pool.upstream.release
        limits = self.core.limits
        longest_s = limits.upstream_idle_s if self.method in IDEMPOTENT else limits.unsafe_idle_s
        link = pool.take_idle(now, longest_s) if not self.retries else None
        if link is not None:
            self._send(link, now)
            return
        self.core.wheel.arm(self.client, NEVER if self.body_done else now + limits.pace_window_s)
        self.link = pool.connect(self)

    def connected(self, link: Link) -> None:
        """The connection that was opened for this request is there."""
        self._send(link, monotonic())

    def _send(self, link: Link, now: float) -> None:
        self.link = link
        link.expect(self)
        self.sent = True
        data = self.render_head(self.rule, self.app.door.request_edit, self.wants_tunnel)
        if self.kept:
            data += b"".join(self.kept)
            self._forget_long_body()
        link.transport.write(data)
        if self.body_done:
            self.arm(now + self.app.routes.policy.timeout_s)
            return
        if self.fields.expect and not self.bytes_in:
            self.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.client.start_reading()
        self._paced = self.bytes_in
        self.arm(now + self.core.limits.pace_window_s)

    def arm(self, due: float) -> None:
        """Let the next deadline be *due*, or what caps it."""
        due = min(due, self._cap)
        client = self.client
        if due < client.parked:
            self.core.wheel.arm(client, due)
        else:
            client.due = due

    def _forget_long_body(self) -> None:
        if self.kept_bytes > self.core.limits.replay_bytes:
            self.kept = None

    # The answer, on its way down.

    def interim(self, answer: Answer) -> None:
        """Pass a 1xx on; 100 is ours to give, and HTTP/1.0 knows none."""
        if answer.status != 100 and self.fields.version == 1:
            lines = b"".join(line + b"\r\n" for line in answer.lines)
            self.client.write(b"HTTP/1.1 " + answer.words + b"\r\n" + lines + b"\r\n")

    def answered(self, answer: Answer, body: bytes, last: bool) -> None:
        """Send the head of the answer to the client, with as much of the body as is there."""
        status = answer.status
        if status == 101:
            self._open_tunnel(answer, body)
            return
        if status == 404 and self.app.door.assets and self._ask_old(last):
            return
        self.status = status
        head = self._render_answer(answer)
        payload = body
        if self._chunk_out:
            body = render_chunk(body, last)
        self.bytes_out += len(body)
        self.client.write(head + body)
        if last:
            self._finish()
            return
        if answer.events:
            self.stream = EventStream(payload)
            if self._leave is not None:
                self.leave(*self._leave)
        self.arm(monotonic() + self._idle_s())

    def _render_answer(self, answer: Answer) -> bytes:
        client, door = self.client, self.app.door
        lines = answer.lines if door.response_edit is None else door.response_edit.apply_to(answer.lines)
        parts = [b"HTTP/1.1 " + answer.words, *lines]
        if door.hsts and self.is_secure():
            parts.append(door.hsts)
        if self._sticky:
            parts.append(self._sticky)
        status = answer.status
        if answer.length is not None:
            if status == 204:
                parts = [line for line in parts if not line.lower().startswith(b"content-length:")]
        elif not self.head_only and status not in _BODYLESS:
            if self.fields.version == 1:
                self._chunk_out = True
                parts.append(b"Transfer-Encoding: chunked")
            else:
                client.closing = True
        if not self.body_done or self.core.retiring:
            client.closing = True
        if client.closing:
            parts.append(b"Connection: close\r\n\r\n")
        elif self.fields.version == 0:
            parts.append(b"Connection: keep-alive\r\n\r\n")
        else:
            parts.append(b"\r\n")
        return b"\r\n".join(parts)

    def flows(self, data: bytes, last: bool) -> None:
        """Pass more of the body on."""
        ended = False
        if self.stream is not None and not last:
            end = self.stream.follow(data)
            if end is not None:
                data, last, ended = data[:end], True, True
        if self._chunk_out:
            data = render_chunk(data, last)
        if data:
            self.bytes_out += len(data)
            self.client.write(data)
        if ended:
            self._end_events()
        elif last:
            self._finish()
        else:
            self.arm(min(self._end_due, monotonic() + self._idle_s()))

    def _idle_s(self) -> float:
        wished = self.app.routes.policy.idle_s
        if wished is not None:
            return wished
        limits = self.core.limits
        return limits.idle_s if self.stream is None else limits.stream_idle_s

    def _finish(self) -> None:
        """The answer is complete."""
        now = monotonic()
        link, pool = self.link, self.pool
        self.link = None
        if link is not None and pool is not None:
            if link.paused:
                link.resume()
            if self.body_done:
                pool.release(link, now)
            else:
                link.close()
        self._close_books(now)
        self.client.finished(now)

    def refuse(self, status: int, *, message: str = "", headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Answer by ourselves."""
        now = monotonic()
        if self.is_held:
            self._leave_queue()
        self.status = status
        client = self.client
        if not self.body_done or self.core.retiring:
            client.closing = True
        data = render_answer(
            status,
            self.id.decode(),
            html=self.fields.html,
            head_only=self.head_only,
            close=client.closing,
            message=message,
            headers=headers,
        )
        self.bytes_out += len(data)
        client.write(data)
        self._close_books(now)
        client.finished(now)

    def cut(self, why: str) -> None:
        """End the answer so that the client can see it was cut."""
        self.why = why
        if self.routed:
            self.core.meter.note(self.app.name, "cut")
        self._close_books(monotonic())
        self.client.cut()

    def abandon(self) -> None:
        """The client has gone."""
        if self.is_over:
            return
        if self.is_held:
            self._leave_queue()
        self.why = self.why or "client left"
        self.status = self.status or 499
        self._close_books(monotonic())

    def _close_books(self, now: float) -> None:
        """Count and log the exchange; it is over."""
        if self.is_over:
            return
        self.is_over = True
        pool = self.pool
        core = self.core
        if pool is not None:
            self._leave_pool()
        seconds = now - self.started
        if self.routed:
            app = self.app
            if self._counted:
                app.in_flight -= 1
            core.meter.count(app.name, self.release, self.status, seconds, self.bytes_in, self.bytes_out)
        else:
            core.meter.count("", 0, self.status, seconds, self.bytes_in, self.bytes_out)
        if core.access_log is not None:
            core.access_log(render_line(self, seconds, pool.upstream.id if pool is not None else None))

    def _leave_pool(self) -> None:
        pool, link = self.pool, self.link
        self.pool = self.link = None
        if link is not None:
            link.close()
        if pool is not None:
            pool.active -= 1
            pool.open.discard(self)
            if pool.leaving and not pool.active:
                self.app.emptied(pool)

    def app_name(self) -> str | None:
        """Return the app that the request is for; None where no rule matched."""
        return self.app.name if self.routed else None

    def shows_query(self) -> bool:
        """Say whether logs show the query string."""
        return self.core.log_query

    # What stands beside the way; `Exchange` fills it in.

    def client_address(self) -> str:
        """Return who asks."""
        raise NotImplementedError

    def host_name(self) -> str:
        """Return the host as it is compared."""
        raise NotImplementedError

    def authorization(self) -> bytes:
        """Return the Authorization header."""
        raise NotImplementedError

    def refused(self, why: str) -> None:
        """No connection could be made; nothing was sent."""
        raise NotImplementedError

    def broken(self, why: str) -> None:
        """The connection to the replica ended, or what came from it makes no sense."""
        raise NotImplementedError

    def pause_sending(self) -> None:
        """The replica does not read as fast as the client sends."""
        raise NotImplementedError

    def resume_sending(self) -> None:
        """The replica reads again."""
        raise NotImplementedError

    def stay(self) -> None:
        """The upstream is back: forget what `leave` said."""
        raise NotImplementedError

    def vanish(self) -> None:
        """The upstream is dead: ask another, or give what flows a moment to end."""
        raise NotImplementedError

    def end_stream(self) -> None:
        """End now if this is an event stream or a WebSocket."""
        raise NotImplementedError

    def _hold(self, app: App, now: float) -> None:
        raise NotImplementedError

    def _leave_queue(self) -> None:
        raise NotImplementedError

    def _open_tunnel(self, answer: Answer, rest: bytes) -> None:
        raise NotImplementedError

    def _ask_old(self, last: bool) -> bool:
        raise NotImplementedError

    def _end_events(self) -> None:
        raise NotImplementedError

    def _read_cookie(self) -> str:
        raise NotImplementedError

    def _mark(self, app: App, pool: Pool) -> None:
        raise NotImplementedError

    def leave(self, starts: float, ends: float, share: float) -> None:
        """The upstream takes nothing new: be done by *ends*; streams in the last quarter before it."""
        raise NotImplementedError
