"""
The way of a request to a replica: through the app's door and mode, to a pick, onto a connection.

The straight way is `begin`, `_admit`, `_go`, `_send`; it never waits, but is told when there is news.
"""

from __future__ import annotations

from time import monotonic

from controller.proxy.app import App
from controller.proxy.doors import BUSY, SHUT, Refusal, Waiting
from controller.proxy.framing import BadMessage
from controller.proxy.link import Link
from controller.proxy.pool import Pool
from controller.proxy.request import IDEMPOTENT
from controller.proxy.visit import Visit
from controller.proxy.wheel import NEVER
from controller.routing.match import BadTarget, Match
from controller.routing.table import Rule

_ALLOW = (("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),)
"""Where we are the last that OPTIONS or TRACE may reach; TRACE would show what proxies before us added."""


class Passage(Visit):
    """A request on its way."""

    def begin(self, rule: Rule, app: App, now: float) -> None:
        """Send the request on its way to a replica of *app*, or answer it."""
        self.rule = rule
        self.app = app
        self.routed = True
        self.door = app.door
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

    def _begin_again(self) -> bool:
        """
        After a wait, match the request against the table in force, since that may be another one by now.

        Return True where it may go on as it was; else it was begun anew with the app, rule and policy that hold now,
        or answered.
        """
        match = self._match_now()
        app = self.core.live.apps.get(match.app) if match is not None else None
        if match is None or app is None:
            self._leave_app()
            self.routed = False
            self.refuse(404)
            return False
        self.rule = match.rule
        if app is self.app and app.door is self.door:
            return True
        if app is not self.app:
            self._leave_app()
            self.app = app
        self._enter_anew()
        return False

    def _match_now(self) -> Match | None:
        try:
            return self.core.live.find(self.fields.name, self.target)
        except BadTarget:
            return None  # its path became ambiguous with other rules

    def has_moved(self) -> bool:
        """Say whether the table in force gives the request to another app than the one that it waits for."""
        match = self._match_now()
        return match is None or match.app != self.app.name

    def _leave_app(self) -> None:
        if self._counted:
            self._counted = False
            self.app.in_flight -= 1
        self.rated = self.goes_round = False
        self._sticky = b""

    def _enter_anew(self) -> None:
        now = monotonic()
        self.door = self.app.door
        if max(self.bytes_in, self.fields.length or 0) > self.app.routes.policy.body_limit_bytes:
            self.refuse(413)
        elif not self.door.checks or self._pass_door(now):
            self._admit(now)

    def _pass_door(self, now: float) -> bool:
        try:
            refusal = self.app.door.check(self, now)
        except Waiting as waiting:
            return self._wait_for_password(waiting)
        except Exception as error:  # noqa: BLE001 - whatever it is: nobody comes in past a policy that was not asked
            refusal = self._shut_out(error)
        if refusal is not None:
            self._answer_refusal(refusal)
        return refusal is None

    def _wait_for_password(self, waiting: Waiting) -> bool:
        self._waits = True
        try:
            waiting.begin(self._password_checked)
        except Exception as error:  # noqa: BLE001 - as above
            self._waits = False
            self._answer_refusal(self._shut_out(error))
        return False

    def _shut_out(self, error: Exception) -> Refusal:
        self.why = f"policy: {type(error).__name__}"
        self.core.tell_fault(self.app.name, error)
        return SHUT

    def _password_checked(self, right: bool | None) -> None:
        """Go on with what the password is found to be; None: that could not be found out."""
        self._waits = False
        if self.is_over or not self._begin_again():
            return
        if right:
            self._admit(monotonic())
        else:
            self._answer_refusal(BUSY if right is None else self.door.unauthorised())

    def _answer_refusal(self, refusal: Refusal) -> None:
        self.refuse(refusal.status, headers=refusal.headers)

    def _admit(self, now: float) -> None:
        """Let the request through by the app's mode: to a replica, into the queue, or to an answer."""
        if self.fields.ends_here:
            self.refuse(204 if self.method == b"OPTIONS" else 405, headers=_ALLOW)
            return
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
            if not app.admit():
                self.core.tell_limit(app.name, "max_in_flight")
                self.refuse(429, headers=(("Retry-After", "1"),))
                return
            self._counted = True
        self._dispatch(None, now)

    def _dispatch(self, avoid: Pool | None, now: float) -> None:
        app = self.app
        cookie = self._read_cookie() if app.marks else ""
        pool = None if self.rule.announced else app.pick(self.rule.group, cookie, avoid)
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
        way = pool
        detour = self.detour = None if self.goes_round else self.app.detour
        if detour is not None:
            way = detour
        link = way.take_idle(now, longest_s) if not self.retries else None
        if link is not None:
            self._send(link, now)
            return
        self.core.wheel.arm(self.client, NEVER if self.body_done else now + limits.pace_window_s)
        self.link = way.connect(self)

    def connected(self, link: Link) -> None:
        """The connection that was opened for this request is there."""
        self._send(link, monotonic())

    def _send(self, link: Link, now: float) -> None:
        self.link = link
        link.expect(self)
        self.sent = True
        data = self.render_head(self.rule, self.app.door.access.request_edit, self.wants_tunnel)
        if self.detour is not None and self.pool is not None:
            data = self.detour.address(data, self.pool.upstream)
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

    # With its body.

    def take_body(self, data: bytes) -> bytes:
        """Take body bytes from the client; return those that belong to the next message, or have to wait."""
        try:
            data, rest = self.read_body(data, self.core.turns)
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

    def _forget_long_body(self) -> None:
        if self.kept_bytes > self.core.limits.replay_bytes:
            self.kept = None

    def _refuse_body(self, status: int, why: str) -> None:
        self.why = why
        if self.status:
            self.cut(why)
        else:
            self.refuse(status)

    # Held, until the next table.

    def _hold(self, app: App, now: float) -> None:
        limits = self.core.limits
        if self._hold_due == NEVER:
            self._hold_due = self.started + app.routes.hold_s
        full = len(app.held) >= limits.held_requests or app.held_bytes + self.kept_bytes > limits.held_bytes
        if full:
            self.core.tell_limit(app.name, "held")
        if full or self._hold_due <= now:
            self._refuse_held()
            return
        self.is_held = True
        self.held_bytes = self.kept_bytes
        app.held.append(self)
        app.shop.holding.add(app)
        app.held_bytes += self.held_bytes
        if not self.body_done:
            self.client.stop_reading()  # what was counted above is all that may wait in memory
        self.core.meter.note(app.name, "held")
        self.core.wheel.arm(self.client, self._hold_due)

    def _refuse_held(self) -> None:
        self.why = "held too long"
        self.refuse(503, headers=(("Retry-After", "5"),))

    def go_on(self) -> None:
        """The hold is over: look at the table anew."""
        self.is_held = False
        if not self.is_over and self._begin_again():
            self._admit(monotonic())
