"""Everything that the connections of one worker share: the table in force, its apps, the clock and the meters."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from time import monotonic
from typing import Any, Protocol

from controller.clock import steady_seconds
from controller.proxy.app import App, Shop
from controller.proxy.guests import Guests
from controller.proxy.heads import HeadReader
from controller.proxy.limits import Limits
from controller.proxy.live import Live, shut_unfit
from controller.proxy.meter import Meter
from controller.proxy.passwords import Passwords
from controller.proxy.rates import Rates
from controller.proxy.releases import Releases
from controller.proxy.replies import AnswerReader
from controller.proxy.stream import when_to_end
from controller.proxy.tallies import Tallies
from controller.proxy.tls import Keyring
from controller.proxy.turns import Turns
from controller.proxy.wheel import NEVER, Wheel
from controller.routing.choose import Draw
from controller.routing.entries import explain
from controller.routing.match import compile_table, find_changes
from controller.routing.table import Table

__all__ = ["Core", "Limits"]


class Connection(Protocol):
    """A client's connection."""

    def end_stream(self) -> None:
        """End an event stream or a WebSocket in good order, if this is one."""
        ...

    def retire(self) -> None:
        """Take no further request after the present one."""
        ...

    def cut(self) -> None:
        """End now, so that the client can see it was cut."""
        ...


_TOLD = 4096
_TELL_S = 5.0
"""A limit that is met again and again is reported no oftener than this."""


class Core:
    """
    The heart of one worker.

    *report* is called at once with plain values: drained, refused and limit messages. *access_log* is called
    once per request with its line of JSON. *shared* is the memory in which limits are counted across workers.
    """

    def __init__(
        self,
        limits: Limits,
        report: Callable[[dict[str, Any]], None],
        *,
        worker: int = 0,
        access_log: Callable[[bytes], None] | None = None,
        shared: memoryview | None = None,
        trusted_proxies: Sequence[str] = (),
        log_query: bool = False,
        tls_port: int | None = None,
    ) -> None:
        self.limits = limits
        self.report = report
        self.worker = worker
        self.access_log = access_log
        self.shared = shared
        self.log_query = log_query
        self.meter = Meter()
        self._releases = Releases()
        self.wheel = Wheel()
        self.turns = Turns()
        rated = len(shared) // 4 * 3 if shared is not None else 0
        self.tallies = Tallies(shared[rated:], worker) if shared is not None else None
        """Counts across workers; None: there is no memory that they share."""
        self.rates = Rates(shared[:rated] if shared is not None else None)
        self.passwords = Passwords()
        self.keyring = Keyring()
        self._tls_port = tls_port
        self._covered: frozenset[str] | None = None
        """Names that had a certificate before we were handed any; None: nobody has said."""
        answers, draw = AnswerReader(limits.answer_header_count), Draw(worker + os.getpid())
        self.shop = Shop(limits, self.meter, draw, answers, self, report, self.turns)
        self.shop.tallies = self.tallies
        self.live = Live(Table(), compile_table(Table()), {})
        self.faults: dict[str, str] = {}
        """Apps that cannot be served as the table says, and why."""
        self.clients: set[Connection] = set()
        self.guests = Guests(self.tallies)
        self.heads = HeadReader(limits)
        self.retiring = False
        self.on_empty: Callable[[], None] = lambda: None
        self.stop_listening: Callable[[], None] = lambda: None
        self.lag_s = 0.0
        self._trusted = tuple(ip_network(cidr, strict=False) for cidr in trusted_proxies)
        self._ids = int.from_bytes(os.urandom(6), "big") << 32
        self._told: dict[tuple[str, str], float] = {}
        self._leavers: dict[str, App] = {}
        self._turns = 0
        self._timer: asyncio.TimerHandle | None = None

    # Tables.

    def take(self, table: Table) -> Mapping[str, str]:
        """
        Put *table* in force: one assignment for requests to come, and the start of drains for what is open.

        Held requests of apps that serve again go on; unused connections to replicas that leave are closed. Returns
        why apps cannot be served as the table says: these answer 503, and the others do not notice.
        """
        before = self.live
        apps = dict(before.apps)
        # What could not be taken is tried again with every table: memory may have been short.
        changed = sorted({*find_changes(before.table.apps, table.apps), *(self.faults.keys() & table.apps.keys())})
        table = shut_unfit(table, changed)
        names = changed if table.sticky_key == before.table.sticky_key else sorted({*changed, *table.apps})
        gone = [name for name in changed if name not in table.apps]
        for name in names:
            if name in table.apps and name not in apps:
                apps[name] = self._leavers.pop(name) if name in self._leavers else App(name, self.shop)
        for name in gone:
            self._leavers[name] = apps.pop(name)
        self.live = Live(table, compile_table(table, before.matcher, changed), apps)
        touched = [apps[name] for name in names if name in apps] + [self._leavers[name] for name in gone]
        self._hand_over(touched, table)
        if gone:
            self.meter.forget(gone)
        self._releases.look_at(touched, now=monotonic())
        return self.faults

    def _hand_over(self, touched: Sequence[App], table: Table) -> None:
        now, steady = monotonic(), steady_seconds()
        for app in touched:
            self.faults.pop(app.name, None)
            routes = table.apps.get(app.name)
            fault = routes.fault if routes is not None else ""
            try:
                app.take(routes, table.version, table.sticky_key, now, steady)
            except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this app alone, which is shut now
                fault = explain(error)
            if fault and routes is not None:
                self.faults[app.name] = fault
        # Of apps that hold, too: a route of theirs may have gone to one that serves.
        for app in {**dict.fromkeys(touched), **dict.fromkeys(self.shop.holding)}:
            app.release_held()

    def take_certificates(self, pems: Mapping[str, tuple[str, str]]) -> dict[str, str]:
        """
        Put exactly these certificates in force (host -> PEM chain, PEM key) for connections to come.

        Returns the reason for each one that cannot be used; the one in force for that host then stays.
        """
        self._covered = frozenset()
        return self.keyring.take(pems)

    def take_covered(self, names: frozenset[str]) -> None:
        """
        Take *names* for covered until certificates come: plain requests for them go to HTTPS, not to the app.

        Once certificates came they are known, and this does nothing.
        """
        self._covered = names if self._covered is None else self._covered

    # Coming and going.

    def start(self) -> None:
        """Start the clockwork on the running loop."""
        self._due = monotonic() + self.wheel.tick_s
        self._timer = asyncio.get_running_loop().call_later(self.wheel.tick_s, self._tick)

    def stop(self) -> None:
        """Stop the clockwork and cut what is open."""
        if self._timer is not None:
            self._timer.cancel()
        for client in list(self.clients):
            client.cut()
        for pool in list(self.shop.warm):
            pool.drop_idle()

    def retire(self, limit_s: float) -> None:
        """
        Take no new connection, finish what is open, and cut what is left after *limit_s*.

        Event streams and WebSockets, whose clients come back by themselves, end in good order in its last quarter.
        `on_empty` is called once nothing is open. A second call can only shorten the limit.
        """
        loop = asyncio.get_running_loop()
        if not self.retiring:
            self.retiring = True
            self.stop_listening()
            for client in list(self.clients):
                client.retire()
        loop.call_later(when_to_end(0.0, limit_s, 0.0), self._end_streams, limit_s)
        loop.call_later(max(0.0, limit_s), self._cut_all)
        if not self.clients:
            loop.call_soon(self.on_empty)

    def _end_streams(self, limit_s: float) -> None:
        loop, clients = asyncio.get_running_loop(), list(self.clients)
        for index, client in enumerate(clients):
            wait_s = when_to_end(0.0, limit_s, (index + 0.5) / len(clients)) - when_to_end(0.0, limit_s, 0.0)
            loop.call_later(wait_s, client.end_stream)

    def _cut_all(self) -> None:
        for client in list(self.clients):
            client.cut()
        if not self.clients:
            self.on_empty()

    def arrived(self, client: Connection, address: str) -> bool:
        """Count a new connection; False where it is one too many."""
        most = self.limits.connections_per_client if not self.is_trusted(address) else NEVER
        if len(self.clients) >= self.limits.connections or not self.guests.arrive(address, most):
            self.tell_limit("", "connections")
            return False
        self.clients.add(client)
        return True

    def hand_over(self, before: Connection, client: Connection) -> None:
        """Let *client* have the place of *before*, which stays counted."""
        self.clients.discard(before)
        self.clients.add(client)

    def departed(self, client: Connection, address: str) -> None:
        """Forget a connection that `arrived`."""
        self.clients.discard(client)
        self.guests.leave(address)
        if self.retiring and not self.clients:
            self.on_empty()

    # What connections ask.

    def tell_limit(self, app: str, what: str) -> None:
        """Count that a limit was met, and report it, though not more often than every few seconds."""
        self.meter.note(app, f"limit {what}")
        if self._may_tell(app, what):
            self.report({"kind": "limit", "app": app, "what": what})

    def tell_fault(self, app: str, error: Exception) -> None:
        """Count that an app's policy could not be asked, and report it no oftener than that either."""
        self.meter.note(app, "policy failed")
        if self._may_tell(app, "policy"):
            self.report({"kind": "fault", "app": app, "why": explain(error)})

    def _may_tell(self, app: str, what: str) -> bool:
        now = monotonic()
        if now - self._told.get((app, what), -_TELL_S) < _TELL_S:
            return False
        if len(self._told) >= _TOLD:
            self._told.clear()
        self._told[(app, what)] = now
        return True

    def is_trusted(self, address: str) -> bool:
        """Say whether *address* is one of the proxies whose X-Forwarded-* is believed."""
        return bool(self._trusted) and _is_in(address, self._trusted)

    def make_id(self) -> bytes:
        """Return a new request id, unique among workers."""
        self._ids += 1
        return b"%020x" % self._ids

    def counters(self, *, whole: bool = True) -> dict[str, Any]:
        """Return what the worker counted so far (unless *whole*, what of it has changed), and what is open now."""
        counted = self.meter.report(whole=whole)
        apps = [*self.live.apps.values(), *self._leavers.values()]
        counted["active"] = [
            {"app": app.name, "requests": app.in_flight, "held": len(app.held)}
            for app in apps
            if app.in_flight or app.held
        ]
        counted["connections"] = len(self.clients)
        counted["lag_s"], self.lag_s = round(self.lag_s, 4), 0.0
        counted["version"] = self.live.table.version
        return counted

    @property
    def tls_port(self) -> int | None:
        """Where the public reaches us by TLS; None: nowhere. Known from birth, since policies are compiled with it."""
        return self._tls_port

    def covers(self, host: str) -> bool:
        """Say whether there is a certificate for *host*."""
        if self.keyring.find(host) is not None:
            return True
        covered = self._covered or frozenset()
        return host in covered or "*." + host.partition(".")[2] in covered

    # The clockwork.

    def _tick(self) -> None:
        now = monotonic()
        self.lag_s = max(self.lag_s, now - self._due)
        self.wheel.turn(now)
        self._turns += 1
        for app in list(self.shop.flying):
            app.compare()
        if self._turns % 5 == 0:
            for pool in list(self.shop.warm):
                pool.sweep(now)
        if self._turns % 10 == 0:
            self._tidy(now)
        self._due = monotonic() + self.wheel.tick_s
        self._timer = asyncio.get_running_loop().call_later(self.wheel.tick_s, self._tick)

    def _tidy(self, now: float) -> None:
        for app in list(self.shop.ejections):
            app.restore(now)
        if self.tallies is not None:
            self.tallies.sweep()
        if left := self._releases.take_left(now):
            self.meter.fold(left)
        over = [name for name, app in self._leavers.items() if app.is_over()]
        for name in over:
            del self._leavers[name]
        if over:
            self.meter.forget(over)  # what was open on them ended after they left


def _is_in(address: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in networks)
