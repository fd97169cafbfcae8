"""
One visit of a client: who asks for what, where it stands, and how it ends in the books.

How it gets to a replica is `passage`'s, how the answer comes back `answering`'s, what goes wrong `exchange`'s.
"""

from __future__ import annotations

from time import monotonic
from typing import Protocol

from controller.proxy.accesslog import render_line
from controller.proxy.answers import render_answer
from controller.proxy.app import App, Held
from controller.proxy.core import Core
from controller.proxy.detour import Detour
from controller.proxy.doors import Door
from controller.proxy.framing import Fields
from controller.proxy.link import Link, Taker
from controller.proxy.pool import Open, Pool
from controller.proxy.request import Request, Sender
from controller.proxy.stream import EventStream
from controller.proxy.tunnel import Near, Tunnel
from controller.proxy.wheel import NEVER
from controller.routing.table import Rule


class Caller(Sender, Near, Protocol):
    """The client's connection, as a visit sees it."""

    closing: bool

    def is_stopped(self) -> bool: ...
    def finished(self, now: float) -> None: ...
    def become_tunnel(self, tunnel: Tunnel) -> None: ...


class Visit(Request, Taker, Open, Held):
    """One request and what became of it."""

    app: App
    door: Door
    """The policy that let it in; where another is in force when it goes on after a wait, that one is asked, too."""
    rule: Rule
    pool: Pool | None = None
    failed: Pool | None = None
    """The replica that failed it last, for the log of what no replica answered."""
    link: Link | None = None
    detour: Detour | None = None
    """The inspector that the link leads to; None: it leads to the replica."""
    goes_round = False
    """The inspector failed this request, which goes on without it."""
    tunnel: Tunnel | None = None
    stream: EventStream | None = None
    status = 0
    release = 0
    retries = 0
    bytes_out = 0
    held_bytes = 0
    rated = False
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
    _half_due = NEVER
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
            keep_alive=self.fields.version == 0,
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
            pool = pool or self.failed
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

    def _leave_queue(self) -> None:
        self.is_held = False
        self.app.forget_held(self)

    # Who it is from and for.

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

    def app_name(self) -> str | None:
        """Return the app that the request is for; None where no rule matched."""
        return self.app.name if self.routed else None

    def shows_query(self) -> bool:
        """Say whether logs show the query string."""
        return self.core.log_query


def find_cookie(cookies: bytes, name: bytes) -> str:
    """Return a cookie's value, "" where it is not there."""
    for part in cookies.split(b";"):
        key, _, value = part.strip().partition(b"=")
        if key == name:
            return value.decode("latin-1")
    return ""
