"""
One request and its answer: which replica it goes to, what is sent, what comes back, and what happens when not.

An exchange is told of bytes and times by its client's connection and by its link; it never waits.
"""

from __future__ import annotations

from time import monotonic
from typing import Protocol

from controller.proxy.answers import render_answer
from controller.proxy.app import App
from controller.proxy.core import Core
from controller.proxy.framing import Answer, BadMessage, ChunkReader, Fields
from controller.proxy.link import Link
from controller.proxy.pool import Pool
from controller.proxy.tunnel import Tunnel
from controller.proxy.wheel import NEVER
from controller.routing.table import Rule

_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"PROPFIND", b"REPORT", b"SEARCH"))
_BORDERS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_GONE_S = 5.0
"""How long an answer that already flows from a dead upstream may be silent."""
_ATTEMPTS = 5
"""Connections tried for one request where nothing was sent."""


class Caller(Protocol):
    """The client's connection, as an exchange sees it."""

    forwarded: bytes
    """X-Forwarded-For, -Proto and -Port, as lines."""
    address: str
    trusted: bool
    tls: bool
    closing: bool
    due: float
    parked: float

    def write(self, data: bytes) -> None: ...
    def stop_reading(self) -> None: ...
    def start_reading(self) -> None: ...
    def is_stopped(self) -> bool: ...
    def finished(self) -> None: ...
    def cut(self) -> None: ...
    def close(self) -> None: ...
    def expire(self, now: float) -> None: ...
    def become_tunnel(self, tunnel: Tunnel) -> bytes: ...


class Exchange:
    """One request and its answer."""

    app: App | None = None
    rule: Rule | None = None
    pool: Pool | None = None
    link: Link | None = None
    tunnel: Tunnel | None = None
    status = 0
    release = 0
    retries = 0
    attempts = 0
    bytes_in = 0
    bytes_out = 0
    held_bytes = 0
    wants_tunnel = False
    is_stream = False
    """The answer is an event stream."""
    body_done = True
    sent = False
    """The head went to the link that is in use now."""
    why = ""
    """What went wrong, for the log."""
    _left = 0
    _chunks: ChunkReader | None = None
    _kept: list[bytes] | None = None
    _kept_bytes = 0
    _counted = False
    _held = False
    _hold_due = NEVER
    _leave: tuple[float, float, float] | None = None
    _leave_due = NEVER
    _end_due = NEVER
    _ending = False
    _tail = b""
    _chunk_out = False
    _paced = 0
    _over = False
    _cookie: bytes = b""

    def __init__(self, client: Caller, core: Core, method: bytes, target: bytes, fields: Fields) -> None:
        self.client = client
        self.core = core
        self.method = method
        self.target = target
        self.fields = fields
        self.started = monotonic()
        self.head_only = method == b"HEAD"
        self.id = fields.request_id or core.make_id()

    # The request.

    def begin(self, rule: Rule, app: App) -> None:
        """Send the request on its way to a replica of *app*, or answer it."""
        self.rule = rule
        self.app = app
        fields = self.fields
        if fields.length:
            self._left = fields.length
            self.body_done = False
        elif fields.chunked:
            self._chunks = ChunkReader()
            self.body_done = False
        if not self.body_done:
            self._kept = []
            if self._left > app.routes.policy.body_limit_bytes:
                self.refuse(413)
                return
        self.wants_tunnel = fields.websocket and self.method == b"GET"
        self._admit()

    def take_body(self, data: bytes) -> bytes:
        """Take body bytes from the client; return those that belong to the next message."""
        chunks = self._chunks
        rest = b""
        if chunks is not None:
            try:
                payload = chunks.feed(data)
            except BadMessage as bad:
                self._refuse_body(400, bad.why)
                return b""
            self.bytes_in += len(payload)
            self.body_done = chunks.done
            rest = chunks.rest
            data = b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""
            if chunks.done:
                data += b"0\r\n\r\n"
            if self.app is not None and self.bytes_in > self.app.routes.policy.body_limit_bytes:
                self._refuse_body(413, "body limit")
                return b""
        else:
            left = self._left - len(data)
            if left <= 0:
                if left < 0:
                    data, rest = data[: self._left], data[self._left :]
                left = 0
                self.body_done = True
            self._left = left
            self.bytes_in += len(data)
        if data:
            self._pass_body(data)
        if self.body_done and self.sent and not self.status:
            self._await_answer()
        return rest

    def _refuse_body(self, status: int, why: str) -> None:
        self.why = why
        if self.status:
            self._cut(why)
        else:
            self.refuse(status)

    def _pass_body(self, data: bytes) -> None:
        kept = self._kept
        if kept is not None:
            kept.append(data)
            self._kept_bytes += len(data)
        limits = self.core.limits
        if self.sent:
            assert self.link is not None
            self.link.transport.write(data)
            if kept is not None and self._kept_bytes > limits.replay_bytes:
                self._kept = None
        elif self._kept_bytes >= limits.buffer_bytes:
            self.client.stop_reading()

    def _admit(self) -> None:
        """Let the request through by the app's mode: to a replica, into the queue, or to an answer."""
        app, rule = self.app, self.rule
        assert app is not None and rule is not None
        routes = app.routes
        if routes.mode != "serve" and rule.group == "live":
            if routes.mode == "maintenance":
                self.refuse(503, message=routes.message, headers=(("Retry-After", "30"),))
                return
            self._hold(app)
            return
        if app.in_flight >= routes.policy.max_in_flight and not self._counted:
            self.refuse(429, headers=(("Retry-After", "1"),))
            return
        if not self._counted:
            self._counted = True
            app.in_flight += 1
            app.budget.requests += 1
        self._dispatch(None)

    def _hold(self, app: App) -> None:
        limits = self.core.limits
        if self._hold_due == NEVER:
            self._hold_due = self.started + app.routes.hold_s
        full = len(app.held) >= limits.held_requests or app.held_bytes >= limits.held_bytes
        if full or self._hold_due <= monotonic():
            self._refuse_held()
            return
        self._held = True
        app.held.append(self)
        self.held_bytes = self._kept_bytes
        app.held_bytes += self.held_bytes
        self.core.meter.note(app.name, "held")
        self.core.wheel.arm(self.client, self._hold_due)

    def _refuse_held(self) -> None:
        self.refuse(503, headers=(("Retry-After", "5"),))

    def go_on(self) -> None:
        """The hold is over: look at the app anew."""
        self._held = False
        if self._over:
            return
        assert self.app is not None
        live = self.core.live.apps.get(self.app.name)
        if live is not self.app:
            self.refuse(404)
            return
        self._admit()

    def _leave_queue(self) -> None:
        assert self.app is not None
        self._held = False
        if self in self.app.held:
            self.app.held.remove(self)
            self.app.held_bytes -= self.held_bytes

    def _dispatch(self, avoid: Pool | None) -> None:
        """Pick a replica, count it, and send the request or open a connection for it."""
        app, rule = self.app, self.rule
        assert app is not None and rule is not None
        cookie = self._find_cookie(app) if app.marks else ""
        pool = app.pick(rule.group, cookie, avoid)
        if pool is None:
            self.refuse(503, headers=(("Retry-After", "5"),))
            return
        self._go(app, pool)

    def _go(self, app: App, pool: Pool) -> None:
        app.enter(pool, self)
        self.pool = pool
        self.release = pool.upstream.release
        now = monotonic()
        limits = self.core.limits
        safe = self.method in _IDEMPOTENT
        link = pool.take_idle(now, limits.upstream_idle_s if safe else limits.unsafe_idle_s)
        if link is None:
            self.core.wheel.arm(self.client, NEVER if self.body_done else now + limits.pace_window_s)
            self.link = pool.connect(self)
        else:
            self._send(link)

    def connected(self, link: Link) -> None:
        """The connection that was opened for this request is there."""
        self._send(link)

    def refused(self, why: str) -> None:
        """No connection could be made; nothing was sent."""
        app, pool = self.app, self.pool
        assert app is not None and pool is not None
        self.link = None
        self.why = f"connect: {why}"
        app.eject(pool, why, monotonic())
        self.attempts += 1
        self._leave_pool()
        if self.attempts < _ATTEMPTS and app.pick(self.rule.group if self.rule else "live", "", pool) not in (None, pool):
            self._dispatch(pool)
        else:
            self.refuse(502)

    def _send(self, link: Link) -> None:
        self.link = link
        link.expect(self)
        self.sent = True
        data = self._render_head()
        if self._kept:
            data += b"".join(self._kept)
            if self._kept_bytes > self.core.limits.replay_bytes:
                self._kept = None
        link.transport.write(data)
        if self.body_done:
            self._await_answer()
            return
        if self.fields.expect and not self.bytes_in:
            self.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.client.start_reading()
        self._paced = self.bytes_in
        self._arm(monotonic() + self.core.limits.pace_window_s)

    def _await_answer(self) -> None:
        assert self.app is not None
        self._arm(monotonic() + self.app.routes.policy.timeout_s)

    def _arm(self, due: float) -> None:
        if due > self._leave_due:
            due = self._leave_due
        client = self.client
        if due < client.parked:
            self.core.wheel.arm(client, due)
        else:
            client.due = due

    def _render_head(self) -> bytes:
        fields, client, rule, app = self.fields, self.client, self.rule, self.app
        assert rule is not None and app is not None
        target = self.target
        prefix = b""
        if rule.strip and rule.path != "/":
            prefix = rule.path.rstrip("/").encode()
            target = target[len(prefix) :]
            if target[:1] != b"/":
                target = b"/" + target
        block = fields.block
        edit = app.door.request_edit if app.door is not None else None
        parts = [self.method, b" ", target, b" HTTP/1.1\r\nHost: ", fields.host, b"\r\n"]
        if edit is None:
            parts.append(block)
        else:
            parts.extend(line for line in block.splitlines(True) if line.partition(b":")[0].lower() not in edit.remove)
            parts.append(edit.lines)
        if fields.length is not None:
            parts.append(b"Content-Length: %d\r\n" % fields.length)
        elif fields.chunked:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        elif self.wants_tunnel:
            parts.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
        if client.trusted:
            parts.append(self._trusted_lines())
        else:
            parts += (client.forwarded, b"X-Forwarded-Host: ", fields.host, b"\r\n")
        if prefix:
            parts += (b"X-Forwarded-Prefix: ", prefix, b"\r\n")
        parts += (b"X-Request-ID: ", self.id, b"\r\n\r\n")
        return b"".join(parts)

    def _trusted_lines(self) -> bytes:
        """Return what a trusted proxy told, with its own address added and gaps filled."""
        told = self.fields.forwarded
        lines = [line for line in told if not line[:16].lower().startswith(b"x-forwarded-for:")]
        names = {line.partition(b":")[0].lower() for line in lines}
        chain = self.fields.forwarded_for
        own = self.client.address.encode()
        lines.append(b"X-Forwarded-For: " + (chain + b", " + own if chain else own))
        for line in (*self.client.forwarded.split(b"\r\n")[1:-1], b"X-Forwarded-Host: " + self.fields.host):
            if line.partition(b":")[0].lower() not in names:
                lines.append(line)
        return b"\r\n".join(lines) + b"\r\n"

    # The answer.

    def interim(self, answer: Answer) -> None:
        """Pass a 1xx on; 100 is ours to give, and HTTP/1.0 knows none."""
        if answer.status != 100 and self.fields.version == 1:
            head = b"HTTP/1.1 " + answer.line + b"\r\n" + b"".join(line + b"\r\n" for line in answer.lines) + b"\r\n"
            self.client.write(head)

    def answered(self, answer: Answer, body: bytes, last: bool) -> None:
        """Send the head of the answer to the client, with as much of the body as is there."""
        if answer.status == 101:
            self._open_tunnel(answer, body)
            return
        app = self.app
        assert app is not None
        if answer.status == 404 and app.door is not None and app.door.policy.assets and self._ask_old(app):
            return
        self.status = answer.status
        head = self._render_answer(app, answer, last)
        if self._chunk_out and (body or last):
            body = _chunk(body, last)
        self.bytes_out += len(body)
        self.client.write(head + body if body else head)
        if last:
            self._finish()
            return
        if answer.content_type.startswith(b"text/event-stream"):
            self._begin_stream(body)
        self._arm(monotonic() + self._idle_s(app))

    def _render_answer(self, app: App, answer: Answer, last: bool) -> bytes:
        lines = answer.lines
        door = app.door
        edit = door.response_edit if door is not None else None
        if edit is not None:
            lines = [line for line in lines if line.partition(b":")[0].lower() not in edit.remove]
        parts = [b"HTTP/1.1 ", answer.line, b"\r\n"]
        for line in lines:
            parts += (line, b"\r\n")
        if edit is not None:
            parts.append(edit.lines)
        if door is not None and door.hsts and self.client.tls:
            parts.append(door.hsts)
        if self._cookie:
            parts.append(self._cookie)
        self._choose_framing(answer, parts)
        client = self.client
        if not self.body_done or self.core.retiring:
            client.closing = True
        if client.closing:
            parts.append(b"Connection: close\r\n")
        elif self.fields.version == 0:
            parts.append(b"Connection: keep-alive\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)

    def _choose_framing(self, answer: Answer, parts: list[bytes]) -> None:
        if answer.length is not None:
            if answer.status == 204:
                parts[3:] = _without_length(parts[3:])
            return
        if self.head_only or answer.status in (204, 304):
            if answer.chunked and self.fields.version == 1:
                parts.append(b"Transfer-Encoding: chunked\r\n" if self.head_only else b"")
            return
        if self.fields.version == 1:
            self._chunk_out = True
            parts.append(b"Transfer-Encoding: chunked\r\n")
        else:
            self.client.closing = True

    def _idle_s(self, app: App) -> float:
        wished = app.routes.policy.idle_s
        if wished is not None:
            return wished
        return self.core.limits.stream_idle_s if self.is_stream else self.core.limits.idle_s

    def flows(self, data: bytes, last: bool) -> None:
        """Pass more of the body on."""
        app = self.app
        assert app is not None
        if self.is_stream and not last:
            self._flow_events(data)
            return
        if self._chunk_out:
            data = _chunk(data, last)
        self.bytes_out += len(data)
        if data:
            self.client.write(data)
        if last:
            self._finish()
        else:
            self._arm(monotonic() + self._idle_s(app))

    def _begin_stream(self, body: bytes) -> None:
        self.is_stream = True
        self._tail = body[-4:]
        if self._leave is not None:
            self.leave(*self._leave)

    def _flow_events(self, data: bytes) -> None:
        """Pass events on; once the stream has to end, only up to the next border between two."""
        assert self.app is not None
        if self._ending:
            seen = self._tail + data
            ends = [found + len(border) for border in _BORDERS if (found := seen.find(border)) >= 0]
            cut = min((end - len(self._tail) for end in ends if end > len(self._tail)), default=None)
            if cut is not None:
                self._end_events(data[:cut])
                return
        self._tail = (self._tail + data)[-4:]
        if self._chunk_out:
            data = _chunk(data, False)
        self.bytes_out += len(data)
        self.client.write(data)
        self._arm(min(self._end_due, monotonic() + self._idle_s(self.app)))

    def _end_events(self, data: bytes) -> None:
        """End the stream properly after *data*; the client comes back by itself."""
        if self.link is not None:
            self.link.close()
        self.client.closing = True
        if self._chunk_out:
            data = _chunk(data, True)
        self.bytes_out += len(data)
        self.client.write(data)
        self.why = "drained"
        self._finish()

    def _finish(self) -> None:
        """The answer is complete."""
        link = self.link
        if link is not None and self.pool is not None:
            self.link = None
            link.transport.resume_reading()
            if self.body_done:
                self.pool.release(link, monotonic())
            else:
                link.close()
        self._close_books()
        self.client.finished()

    # Trouble.

    def broken(self, why: str) -> None:
        """The connection to the replica ended, or what came from it makes no sense."""
        link, pool, app = self.link, self.pool, self.app
        assert app is not None and pool is not None
        fresh = link is not None and link.fresh
        self.link = None
        self.why = why
        if self.status:
            self._cut(why)
            return
        if fresh and self.attempts == 0 and why == "reset":
            app.eject(pool, why, monotonic())
        self._try_again()

    def _try_again(self) -> None:
        """Ask another replica where that is allowed, else answer 502."""
        app, pool = self.app, self.pool
        assert app is not None
        self._leave_pool()
        if not self._may_retry(app):
            self.refuse(502)
            return
        self.retries += 1
        self.core.meter.note(app.name, "retry")
        if app.routes.mode == "hold":
            self._admit()
        else:
            self._dispatch(pool)

    def _may_retry(self, app: App) -> bool:
        if self.core.live.apps.get(app.name) is not app:
            return False
        if not self.sent:
            return self.attempts < _ATTEMPTS
        self.sent = False
        if self.method not in _IDEMPOTENT or self.retries or self._kept is None and not self._is_bodyless():
            return False
        return app.budget.take(monotonic())

    def _is_bodyless(self) -> bool:
        return not self.fields.length and not self.fields.chunked

    def _leave_pool(self) -> None:
        pool, link = self.pool, self.link
        if link is not None:
            self.link = None
            link.close()
        if pool is not None:
            self.pool = None
            assert self.app is not None
            self.app.exit(pool, self)

    def refuse(
        self, status: int, *, message: str = "", headers: tuple[tuple[str, str], ...] = (), location: str = ""
    ) -> None:
        """Answer by ourselves."""
        if self._held:
            self._leave_queue()
        if self.link is not None:
            self.link.close()
            self.link = None
        self.status = status
        client = self.client
        if not self.body_done or self.core.retiring:
            client.closing = True
        if location:
            headers = (*headers, ("Location", location))
        if status == 401 and self.app is not None:
            headers = (*headers, ("WWW-Authenticate", f'Basic realm="{self.app.name}", charset="UTF-8"'))
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
        self._close_books()
        client.finished()

    def _cut(self, why: str) -> None:
        """End the answer so that the client can see it was cut."""
        self.why = why
        if self.app is not None:
            self.core.meter.note(self.app.name, "cut")
        self._close_books()
        self.client.cut()

    def is_waiting_or_streaming(self) -> bool:
        """Say whether the client may be gone for long before anybody writes to it."""
        return self._held or self.is_stream

    def abandon(self) -> None:
        """The client has gone."""
        if self._over:
            return
        if self._held:
            self._leave_queue()
        self.why = self.why or "client left"
        self.status = self.status or 499
        self._close_books()

    def _close_books(self) -> None:
        """Count and log the exchange; it is over."""
        if self._over:
            return
        self._over = True
        app, pool = self.app, self.pool
        self._leave_pool()
        seconds = monotonic() - self.started
        if app is not None:
            if self._counted:
                app.in_flight -= 1
            release = self.release if pool is not None else 0
            self.core.meter.count(app.name, release, self.status, seconds, self.bytes_in, self.bytes_out)
        if self.core.access_log is not None:
            self.core.access_log(self._entry(seconds, pool))

    def _entry(self, seconds: float, pool: Pool | None) -> dict[str, object]:
        target = self.target if self.core.log_query else self.target.partition(b"?")[0]
        entry: dict[str, object] = {
            "id": self.id.decode(),
            "client": self.client.address,
            "method": self.method.decode(),
            "host": self.fields.name,
            "path": target.decode("latin-1"),
            "status": self.status,
            "ms": round(seconds * 1000, 2),
            "in": self.bytes_in,
            "out": self.bytes_out,
            "app": self.app.name if self.app is not None else None,
        }
        if pool is not None:
            entry["release"] = pool.upstream.release
            entry["upstream"] = pool.upstream.id
        if self.retries:
            entry["retries"] = self.retries
        if self.why:
            entry["why"] = self.why
        return entry

    # Time and pressure.

    def expire(self, now: float) -> None:
        """A deadline passed: the hold's, the body's pace, the answer's, the stream's, or the drain's."""
        assert self.app is not None
        if self.tunnel is not None:
            self.tunnel.expire(now)
        elif self._held:
            self._refuse_held()
        elif now >= self._leave_due:
            self._run_out()
        elif not self.body_done and not self.status:
            self._check_pace(now)
        elif not self.status:
            self.why = "timeout"
            self.refuse(504)
        elif now >= self._end_due:
            self._end_due = NEVER
            self._ending = True
            if self._tail.endswith(_BORDERS):
                self._end_events(b"")
            else:
                self._arm(NEVER)
        else:
            self._cut("idle")

    def _run_out(self) -> None:
        self.why = "drain limit"
        if self.status:
            self._cut(self.why)
        else:
            self._leave_due = NEVER
            self._leave = None
            self._try_again()

    def _check_pace(self, now: float) -> None:
        limits = self.core.limits
        slow = self.bytes_in - self._paced < limits.body_bytes_per_s * limits.pace_window_s
        if slow and not self.client.is_stopped():
            self.why = "body too slow"
            self.refuse(408)
            return
        if slow and self.sent:
            self.why = "replica does not read"
            self.refuse(504)
            return
        self._paced = self.bytes_in
        self._arm(now + limits.pace_window_s)

    def pause_sending(self) -> None:
        """The replica does not read as fast as the client sends."""
        self.client.stop_reading()

    def resume_sending(self) -> None:
        """The replica reads again."""
        self.client.start_reading()

    def pause_answer(self) -> None:
        """The client does not read as fast as the replica sends."""
        if self.link is not None and self.sent:
            self.link.transport.pause_reading()

    def resume_answer(self) -> None:
        """The client reads again."""
        if self.link is not None and self.sent:
            self.link.transport.resume_reading()

    # Leaving upstreams.

    def leave(self, starts: float, ends: float, share: float) -> None:
        """The upstream takes nothing new: be done by *ends*; streams in the last quarter before it."""
        if self.tunnel is not None:
            self.tunnel.leave(starts, ends, share)
            return
        self._leave = (starts, ends, share)
        self._leave_due = ends
        due = ends
        if self.is_stream:
            quarter = (ends - starts) / 4
            due = self._end_due = ends - quarter + share * quarter * 0.8
        if due < self.client.due:
            self.core.wheel.arm(self.client, due)

    def stay(self) -> None:
        """The upstream is back: forget what `leave` said."""
        if self.tunnel is not None:
            self.tunnel.stay()
        self._leave = None
        self._leave_due = self._end_due = NEVER
        self._ending = False

    def vanish(self) -> None:
        """The upstream is dead: ask another, or give what flows a moment to end."""
        if self.tunnel is not None:
            self.tunnel.end()
        elif not self.status:
            self.why = "replica is gone"
            self._try_again()
        else:
            now = monotonic()
            self.leave(now, now + _GONE_S, 0.0)

    def end_stream(self) -> None:
        """End now if this is an event stream or a WebSocket."""
        if self.tunnel is not None:
            self.tunnel.end()
        elif self.is_stream:
            now = monotonic()
            self.leave(now, now + 1.0, 0.0)
            self._ending = True
            if self._tail.endswith(_BORDERS):
                self._end_events(b"")

    # Tunnels, cookies, old assets.

    def _open_tunnel(self, answer: Answer, rest: bytes) -> None:
        assert self.link is not None and self.app is not None
        self.status = 101
        lines = b"".join(line + b"\r\n" for line in answer.lines)
        cookie = self._cookie
        self.client.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + lines + cookie + b"\r\n"
        )
        idle_s = self.app.routes.policy.idle_s or self.core.limits.stream_idle_s
        self.tunnel = Tunnel(self, self.client, self.link, idle_s, self.core.limits, self.core.wheel)
        early = self.client.become_tunnel(self.tunnel)
        self.link.tunnel(self.tunnel.upward)
        self.tunnel.begin(early, rest)
        if self._leave is not None:
            self.tunnel.leave(*self._leave)

    def tunnel_ended(self, why: str, bytes_in: int, bytes_out: int) -> None:
        """Both sides of the tunnel are closed."""
        self.why = why
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self._close_books()

    def _find_cookie(self, app: App) -> str:
        return ""

    def _ask_old(self, app: App) -> bool:
        return False


def _chunk(data: bytes, last: bool) -> bytes:
    if not data:
        return b"0\r\n\r\n" if last else b""
    return b"%x\r\n%b\r\n%b" % (len(data), data, b"0\r\n\r\n" if last else b"")


def _without_length(lines: list[bytes]) -> list[bytes]:
    kept: list[bytes] = []
    for line, end in zip(lines[::2], lines[1::2], strict=False):
        if not line.lower().startswith(b"content-length:"):
            kept += (line, end)
    return kept
