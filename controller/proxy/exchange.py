"""
One request and its answer, and what happens where the way between them is not straight.

Replicas that refuse, reset or leave; deadlines; clients and replicas that do not read.
"""

from __future__ import annotations

from time import monotonic

from controller.proxy.answering import Answering
from controller.proxy.detour import find_trouble
from controller.proxy.link import Link
from controller.proxy.pool import Pool
from controller.proxy.replies import Answer
from controller.proxy.request import IDEMPOTENT
from controller.proxy.stream import when_to_end
from controller.proxy.wheel import NEVER

_GONE_S = 5.0
"""How long an answer that already flows from a dead upstream may be silent."""
_ATTEMPTS = 5
"""Connections tried for one request where nothing was sent."""


class Exchange(Answering):
    """One request and its answer."""

    # Trouble.

    def refused(self, why: str) -> None:
        """No connection could be made; nothing was sent."""
        pool = self.pool
        self.link = None
        if self.detour is not None:
            self._go_round(why)
            return
        self.why = f"connect: {why}"
        if pool is not None:
            self.app.eject(pool, why, monotonic())
        self._attempts += 1
        self.failed = pool
        self._leave_pool()
        if self._asked_old:
            self.refuse(404)
        elif self._attempts < _ATTEMPTS and self._has_other(pool):
            self._again(pool)
        else:
            self.refuse(502)

    def _has_other(self, pool: Pool | None) -> bool:
        if self.core.live.apps.get(self.app.name) is not self.app:
            return False
        return self.app.routes.mode == "hold" or self.app.pick(self.rule.group, "", pool) not in (None, pool)

    def broken(self, why: str) -> None:
        """The connection to the replica ended, or what came from it makes no sense."""
        link, pool = self.link, self.pool
        self.link = None
        self.why = why
        if self.status:
            self.cut(why)
            return
        if self.detour is not None:
            self._lose_inspector(why, link)
            return
        stale = link is not None and not link.fresh
        if why == "reset" and not stale and pool is not None:
            self.app.eject(pool, why, monotonic())
        self._try_again(free=stale, heard=link is not None and link.heard)

    # The inspector.

    def _go_round(self, why: str) -> None:
        """There is no inspector: go on without it, or answer 503 where the app says so."""
        app, pool, detour = self.app, self.pool, self.detour
        now = monotonic()
        self.detour = None
        self.goes_round = True
        if detour is not None:
            self.core.meter.note(app.name, "bypass")
            detour.tell_missed(why, now, required=app.routes.policy.inspect_required)
        stays = pool is not None and not pool.leaving
        self._leave_pool()
        if app.routes.policy.inspect_required:
            self.why = f"inspector: {why}"
            self.refuse(503, headers=(("Retry-After", "5"),))
        elif pool is not None and stays:
            self._go(pool, now)
        else:
            self._dispatch(None, now)

    def _lose_inspector(self, why: str, link: Link | None) -> None:
        """The inspector ended, or said what makes no sense, before a byte of the answer: no replica is to blame."""
        if self.detour is not None and (link is None or link.fresh):
            self.core.meter.note(self.app.name, "bypass")
            self.detour.tell_missed(why, monotonic(), required=self.app.routes.policy.inspect_required)
        self.detour = None
        # The socket of one that is being killed may take one more connection before it is gone, and break it too.
        self.goes_round = not self.app.routes.policy.inspect_required
        self._try_again(free=True, heard=link is not None and link.heard)

    def _meet_trouble(self, answer: Answer) -> bool:
        trouble = find_trouble(answer)
        if not trouble:
            return False
        if self.link is not None:
            self.link.close()
        self.link = self.detour = None
        kind, _, why = trouble.partition(" ")
        if kind == "connect":
            self.refused(why)
        elif kind == "broken":
            self.broken(why)
        else:
            self.why = f"inspector: {trouble}"
            self.refuse(400 if kind == "request" else 502)
        return True

    def _try_again(self, *, free: bool = False, heard: bool = False) -> None:
        """Ask another replica where that is allowed, else answer 502; *heard*: a byte of an answer came back."""
        heard = heard or (self.link is not None and self.link.heard)
        pool = self.failed = self.pool
        self._leave_pool()
        if self._asked_old:
            self.refuse(404)
        elif not heard and self._may_retry(free):
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
        # What its last upstream said of leaving does not hold on the next.
        self._leave = None
        self._leave_due = self._end_due = self._cap = NEVER
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
        elif now >= self._half_due:
            self._give_up_half()
        elif now >= self._leave_due:
            self._run_out()
        elif not self.body_done and not self.status:
            self._check_pace(now)
        elif not self.status:
            self.why = "timeout"
            self.refuse(504)
        else:
            self.cut("idle")

    def half_closed(self) -> bool:
        """
        The client sends nothing more; say whether its connection stays open for the answer.

        It may have gone altogether, which looks the same, so the answer has to begin soon.
        """
        if self.is_held or self.stream is not None or not self.body_done:
            return False
        if not self.status:
            self._half_due = monotonic() + self.core.limits.half_closed_s
            self._cap = min(self._cap, self._half_due)
            self.arm(self.client.due)
        return True

    def _give_up_half(self) -> None:
        self._half_due = NEVER
        self._cap = self._leave_due
        if self.status:
            self._arm_anew()  # its answer began in time
        else:
            self.abandon()
            self.client.cut()

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
            due = self._end_due = when_to_end(starts, ends, share)
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
