"""
One request and its answer, and what happens where the way between them is not straight.

Retries, held requests, deadlines, upstreams that leave, event streams that end, WebSockets, old assets.
"""

from __future__ import annotations

from time import monotonic

from controller.proxy.app import App
from controller.proxy.framing import BadMessage
from controller.proxy.passage import Passage
from controller.proxy.pool import Pool
from controller.proxy.replies import Answer
from controller.proxy.request import IDEMPOTENT
from controller.proxy.tunnel import Tunnel
from controller.proxy.wheel import NEVER

_GONE_S = 5.0
"""How long an answer that already flows from a dead upstream may be silent."""
_ATTEMPTS = 5
"""Connections tried for one request where nothing was sent."""
_STREAM_SHARE = 0.8
"""Part of a drain's last quarter over which streams end, so that the last one has time to find its border."""


class Exchange(Passage):
    """One request and its answer."""

    # The body, on its way up.

    def take_body(self, data: bytes) -> bytes:
        """Take body bytes from the client; return those that belong to the next message."""
        try:
            data, rest = self.read_body(data)
        except BadMessage as bad:
            self._refuse_body(400, bad.why)
            return b""
        if not self.routed:
            return rest
        if self.bytes_in > self.app.routes.policy.body_limit_bytes:
            self._refuse_body(413, "body limit")
            return b""
        if data:
            self._pass_body(data)
        if self.body_done and self.sent and not self.status:
            self.arm(monotonic() + self.app.routes.policy.timeout_s)
        return rest

    def _pass_body(self, data: bytes) -> None:
        self.keep(data)
        if self.sent:
            # A replica may answer before it has read everything; then what is left of the body is nobody's.
            if self.link is not None:
                self.link.transport.write(data)
            self._forget_long_body()
        elif self.kept_bytes >= self.core.limits.buffer_bytes:
            self.client.stop_reading()

    def _refuse_body(self, status: int, why: str) -> None:
        self.why = why
        if self.status:
            self.cut(why)
        else:
            self.refuse(status)

    # The hold.

    def _hold(self, app: App, now: float) -> None:
        limits = self.core.limits
        if self._hold_due == NEVER:
            self._hold_due = self.started + app.routes.hold_s
        full = len(app.held) >= limits.held_requests or app.held_bytes + self.kept_bytes > limits.held_bytes
        if full or self._hold_due <= now:
            self._refuse_held()
            return
        self.is_held = True
        self.held_bytes = self.kept_bytes
        app.held.append(self)
        app.held_bytes += self.held_bytes
        self.core.meter.note(app.name, "held")
        self.core.wheel.arm(self.client, self._hold_due)

    def _refuse_held(self) -> None:
        self.why = "held too long"
        self.refuse(503, headers=(("Retry-After", "5"),))

    def go_on(self) -> None:
        """The hold is over: look at the app anew."""
        self.is_held = False
        if self.is_over:
            return
        if self.core.live.apps.get(self.app.name) is self.app:
            self._admit(monotonic())
        else:
            self.refuse(404)

    def _leave_queue(self) -> None:
        self.is_held = False
        app = self.app
        if self in app.held:
            app.held.remove(self)
            app.held_bytes -= self.held_bytes

    def is_waiting_or_streaming(self) -> bool:
        """Say whether the client may be gone for long before anybody writes to it."""
        return self.is_held or self.stream is not None

    # Trouble.

    def refused(self, why: str) -> None:
        """No connection could be made; nothing was sent."""
        pool = self.pool
        assert pool is not None
        self.link = None
        self.why = f"connect: {why}"
        self.app.eject(pool, why, monotonic())
        self._attempts += 1
        self._leave_pool()
        if self._asked_old:
            self.refuse(404)
        elif self._attempts < _ATTEMPTS and self._has_other(pool):
            self._again(pool)
        else:
            self.refuse(502)

    def _has_other(self, pool: Pool) -> bool:
        if self.core.live.apps.get(self.app.name) is not self.app:
            return False
        return self.app.routes.mode == "hold" or self.app.pick(self.rule.group, "", pool) not in (None, pool)

    def broken(self, why: str) -> None:
        """The connection to the replica ended, or what came from it makes no sense."""
        link, pool = self.link, self.pool
        assert pool is not None
        self.link = None
        self.why = why
        if self.status:
            self.cut(why)
            return
        stale = link is not None and not link.fresh
        if why == "reset" and not stale:
            self.app.eject(pool, why, monotonic())
        self._try_again(free=stale)

    def _try_again(self, *, free: bool = False) -> None:
        """Ask another replica where that is allowed, else answer 502."""
        pool = self.pool
        self._leave_pool()
        if self._asked_old:
            self.refuse(404)
        elif self._may_retry(free):
            self.retries += 1
            self.core.meter.note(self.app.name, "retry")
            self._again(pool)
        else:
            self.refuse(502)

    def _may_retry(self, free: bool) -> bool:
        if self.core.live.apps.get(self.app.name) is not self.app:
            return False
        if not self.sent:
            self._attempts += 1
            return self._attempts < _ATTEMPTS
        if self.method not in IDEMPOTENT or self.retries or not self.has_all_of_it():
            return False
        # A kept connection that ends without a byte was closed by a replica that never read the request, as good as
        # always; that is no sign of overload, and the next attempt goes out on a new connection.
        return free or self.app.budget.take(monotonic())

    def _again(self, avoid: Pool | None) -> None:
        self.sent = False
        if self.app.routes.mode == "hold" and self.rule.group == "live":
            self._hold(self.app, monotonic())
        else:
            self._dispatch(avoid, monotonic())

    # Time and pressure.

    def expire(self, now: float) -> None:
        """A deadline passed: the hold's, the body's pace, the answer's, the stream's, or the drain's."""
        if self.tunnel is not None:
            self.tunnel.expire(now)
        elif self.is_held:
            self._refuse_held()
        elif self.stream is not None and not self.stream.ending and now >= self._end_due:
            self._end_due = NEVER
            self.stream.ending = True
            self._end_if_at_border()
        elif now >= self._leave_due:
            self._run_out()
        elif not self.body_done and not self.status:
            self._check_pace(now)
        elif not self.status:
            self.why = "timeout"
            self.refuse(504)
        else:
            self.cut("idle")

    def _run_out(self) -> None:
        self.why = "drain limit"
        if self.status:
            self.cut(self.why)
        else:
            self._leave_due = self._cap = NEVER
            self._leave = None
            self._try_again()

    def _check_pace(self, now: float) -> None:
        limits = self.core.limits
        slow = self.bytes_in - self._paced < limits.body_bytes_per_s * limits.pace_window_s
        if slow and not self.client.is_stopped():
            self.why = "body too slow"
            self.refuse(408)
        elif slow and self.sent:
            self.why = "replica does not read"
            self.refuse(504)
        else:
            self._paced = self.bytes_in
            self.arm(now + limits.pace_window_s)

    def pause_sending(self) -> None:
        """The replica does not read as fast as the client sends."""
        self.client.stop_reading()

    def resume_sending(self) -> None:
        """The replica reads again."""
        self.client.start_reading()

    def pause_answer(self, due: float) -> None:
        """The client does not read as fast as the replica sends; it has until *due* to show some pace."""
        self._cap = min(self._leave_due, due)
        self.arm(due)
        if self.link is not None and self.sent:
            self.link.pause()

    def resume_answer(self) -> None:
        """The client reads again."""
        self._cap = self._leave_due
        self._arm_anew()
        if self.link is not None and self.sent:
            self.link.resume()

    def _arm_anew(self) -> None:
        now = monotonic()
        if self.is_held:
            self.arm(self._hold_due)
        elif self.status:
            self.arm(min(self._end_due, now + self._idle_s()))
        elif self.body_done and self.sent:
            self.arm(now + self.app.routes.policy.timeout_s)
        else:
            self.arm(now + self.core.limits.pace_window_s)

    # Leaving upstreams.

    def leave(self, starts: float, ends: float, share: float) -> None:
        """The upstream takes nothing new: be done by *ends*; streams in the last quarter before it."""
        if self.tunnel is not None:
            self.tunnel.leave(starts, ends, share)
            return
        self._leave = (starts, ends, share)
        self._leave_due = self._cap = due = ends
        if self.stream is not None:
            quarter = (ends - starts) / 4
            due = self._end_due = ends - quarter + share * quarter * _STREAM_SHARE
        if due < self.client.due:
            self.core.wheel.arm(self.client, due)

    def stay(self) -> None:
        """The upstream is back: forget what `leave` said."""
        if self.tunnel is not None:
            self.tunnel.stay()
        self._leave = None
        self._leave_due = self._end_due = self._cap = NEVER
        if self.stream is not None:
            self.stream.ending = False
        if self.tunnel is None and not self.is_held:
            self._arm_anew()

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
        elif self.stream is not None:
            now = monotonic()
            self.leave(now, now + 1.0, 0.0)
            self.stream.ending = True
            self._end_if_at_border()

    def _end_if_at_border(self) -> None:
        if self.stream is None or not self.stream.is_at_border():
            self.arm(NEVER)
            return
        if self._chunk_out:
            self.client.write(b"0\r\n\r\n")
        self._end_events()

    def _end_events(self) -> None:
        """The stream was ended properly; the client comes back by itself."""
        self.client.closing = True
        self.why = "drained"
        self._leave_pool()
        self._finish()

    # WebSockets, cookies, old assets.

    def _open_tunnel(self, answer: Answer, rest: bytes) -> None:
        assert self.link is not None
        self.status = 101
        lines = [b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket", *answer.lines]
        if self._sticky:
            lines.append(self._sticky)
        self.client.write(b"\r\n".join(lines) + b"\r\n\r\n")
        idle_s = self.app.routes.policy.idle_s or self.core.limits.stream_idle_s
        self.tunnel = Tunnel(self, self.client, self.link, idle_s, self.core)
        early = self.client.become_tunnel(self.tunnel)
        self.link.tunnel(self.tunnel.upward)
        self.tunnel.begin(early, rest)
        if self._leave is not None:
            self.tunnel.leave(*self._leave)

    def tunnel_ended(self, why: str, bytes_in: int, bytes_out: int) -> None:
        """Both sides of the tunnel are closed, or closing."""
        self.why = why
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self.link = None  # the tunnel closes it in its own way
        self._close_books(monotonic())

    def _read_cookie(self) -> str:
        return find_cookie(self.fields.cookie, b"oton_" + self.app.name.encode())

    def _mark(self, app: App, pool: Pool) -> None:
        """Set the cookie where the client's does not lead here."""
        value = app.mark_of(pool)
        if not value or self.rule.group != "live" or value == self._read_cookie():
            self._sticky = b""
            return
        secure = "; Secure" if self.is_secure() else ""
        text = f"Set-Cookie: oton_{app.name}={value}; Path={self.rule.path}; HttpOnly; SameSite=Lax{secure}"
        self._sticky = text.encode("latin-1")

    def _ask_old(self, last: bool) -> bool:
        """Ask the old release for an asset that the new one does not have."""
        if self._asked_old or self.method not in (b"GET", b"HEAD") or not self.body_done:
            return False
        pool = self.app.pick_assets()
        if pool is None or not self.app.door.is_asset(self.path()):
            return False
        self._asked_old = True
        link, current = self.link, self.pool
        if last and link is not None and current is not None:
            self.link = None
            current.release(link, monotonic())
        self._leave_pool()
        self.sent = False
        self._go(pool, monotonic())
        return True

    # What the door asks.

    def client_address(self) -> str:
        """Return who asks: the peer, or the last one before the proxies that are trusted."""
        if not self.client.trusted or not self.fields.forwarded_for:
            return self.client.address
        chain = [part.strip() for part in self.fields.forwarded_for.decode("latin-1").split(",")]
        return next((address for address in reversed(chain) if not self.core.is_trusted(address)), chain[0])

    def host_name(self) -> str:
        """Return the host as it is compared."""
        return self.fields.name

    def authorization(self) -> bytes:
        """Return the Authorization header."""
        return self.fields.authorization


def find_cookie(cookies: bytes, name: bytes) -> str:
    """Return a cookie's value, "" where it is not there."""
    for part in cookies.split(b";"):
        key, _, value = part.strip().partition(b"=")
        if key == name:
            return value.decode("latin-1")
    return ""
