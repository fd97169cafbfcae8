"""Keeps the table's fixed entries true: resolves, judges, probes and publishes them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import structlog

from controller.clock import Clock
from controller.errors import ControllerError, Refused
from controller.fixed.targets import Fence, read_target
from controller.plan.claims import Claim, Claims, claim_of, claims_of_routes, keepers
from controller.plan.situation import Heir
from controller.ports import Target
from controller.routing.table import AppRoutes, Rule, Upstream
from controller.spec.model import Health
from controller.store.fixed import FixedRoute
from controller.world.model import Routing, Verdict

log = structlog.get_logger("fixed")

PREFIX = "fixed:"
LOOK_S = 2.0
RESOLVE_EVERY_S = 15.0

Resolve = Callable[[str, int], Sequence[str]]


class Ledger(Protocol):
    """The fixed routes that people asked for."""

    def list(self) -> tuple[FixedRoute, ...]: ...
    def save(self, route: FixedRoute) -> None: ...
    def remove(self, name: str) -> None: ...


class Publishing(Protocol):
    """The table, as far as fixed entries need it."""

    def publish(self, app: str, routes: AppRoutes | None) -> None: ...
    def routing(self, app: str) -> Routing: ...
    def apps(self) -> Collection[str]: ...


class Probing(Protocol):
    """The prober."""

    def watch(self, app: str, targets: Collection[Target]) -> None: ...
    def verdicts(self, app: str) -> Mapping[str, Verdict]: ...


def is_fixed(app: str) -> bool:
    """Say whether a name of the table is a fixed entry's; no app can be called so."""
    return app.startswith(PREFIX)


def resolve_name(host: str, port: int) -> Sequence[str]:
    """Return the addresses of *host* now; none where it has none."""
    with suppress(OSError):
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return sorted({str(info[4][0]) for info in found})
    return ()


def is_of_this_machine(address: str) -> bool:
    """Say whether this machine has the address: only then can a socket be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe, suppress(OSError):
        probe.bind((address, 0))
        return True
    return False


class Keeper:
    """`run` wants a thread of its own; the rest is safe to call from any thread."""

    def __init__(
        self,
        ledger: Ledger,
        publisher: Publishing,
        prober: Probing,
        clock: Clock,
        fence: Callable[[], Fence],
        resolve: Resolve = resolve_name,
    ) -> None:
        self._ledger, self._publisher, self._prober = ledger, publisher, prober
        self._clock, self._fence, self._resolve = clock, fence, resolve
        self._bell = threading.Event()
        self._lock = threading.Lock()
        self._found: dict[tuple[str, int], tuple[float, tuple[str, ...]]] = {}
        self._said: dict[str, str] = {}
        self.built_in: tuple[AppRoutes, ...] = ()
        """Entries of the service's own, such as the API under its public host."""
        self.heirs: Callable[[str, Mapping[Claim, str]], Mapping[Claim, Heir]] = lambda _entry, _claims: {}
        """Which apps ask for what an entry has."""

    def run(self, stop: threading.Event) -> None:
        """Keep the entries true until *stop*."""
        while not stop.is_set():
            try:
                self.look()
            except ControllerError as error:
                log.warning("fixed routes could not be refreshed", why=str(error))
            self._bell.wait(LOOK_S)
            self._bell.clear()

    def wake(self) -> None:
        """Look soon: a verdict has changed."""
        self._bell.set()

    def look(self) -> None:
        """Bring the table to what was asked for and what is ready."""
        with self._lock:
            wanted = {entry.app: entry for entry in self.built_in}
            wanted |= {PREFIX + route.name: self._entry(route) for route in self._ledger.list()}
            for app in sorted(name for name in self._publisher.apps() if is_fixed(name) and name not in wanted):
                self._let_go(app)
            for app, entry in sorted(wanted.items()):
                self._publish(app, entry)

    def _publish(self, app: str, entry: AppRoutes) -> None:
        try:
            if self._publisher.routing(app).published != entry:
                self._publisher.publish(app, entry)
        except Refused as error:
            self._say(app, str(error))
            return
        published = self._publisher.routing(app).published
        if published is not None and published.waiting:
            self._say(app, f"{claim_of(published.waiting[0])} belongs to another")
        else:
            self._said.pop(app, None)

    def _let_go(self, app: str) -> None:
        """Take an entry out of the table, but what an app takes over only once that is ready."""
        published = self._publisher.routing(app).published
        rules = published.rules if published is not None else ()
        heirs = self.heirs(app, keepers(rules))
        kept = tuple(replace(r, kept_for=heirs[claim_of(r)].app) for r in rules if claim_of(r) in heirs)
        self._prober.watch(app, ())
        self._publisher.publish(app, replace(published, rules=kept, waiting=()) if published and kept else None)

    def claims(self) -> Mapping[str, Claims]:
        """Return what each fixed route claims, under a name for a person."""
        built_in = {
            f"the service's own {entry.app.removeprefix(PREFIX)}": claims_of_routes(entry) for entry in self.built_in
        }
        return built_in | {f"fixed route {r.name}": claims_of_routes(_bare(r)) for r in self._ledger.list()}

    def add(self, route: FixedRoute, owners: Mapping[str, Claims]) -> FixedRoute:
        """Take a route; Refused with the reason where a target is not allowed, or the claim is another's."""
        mine = claims_of_routes(_bare(route))
        reserved = {claim.host for entry in self.built_in for claim in claims_of_routes(entry)}
        if taken := sorted(claim for claim in mine if claim.host in reserved):
            raise Refused(f"{taken[0]} belongs to the service's own API, with every path")
        for app, theirs in sorted(owners.items()):
            if taken := sorted(mine & theirs):
                raise Refused(f"{taken[0]} belongs to {app}")
        for text in route.targets:
            host, port = read_target(text)
            for address in self._resolve(host, port):
                if why := self._judge(host, port, address):
                    raise Refused(f"targets: {text}: {why}")
        self._ledger.save(route)
        self._bell.set()
        return route

    def remove(self, name: str) -> None:
        """Take a route away; Refused where there is none."""
        self._ledger.remove(name)
        self._bell.set()

    def all(self) -> tuple[tuple[FixedRoute, tuple[Upstream, ...]], ...]:
        """Return every route with its upstreams as they are published."""
        found = []
        for route in self._ledger.list():
            published = self._publisher.routing(PREFIX + route.name).published
            found.append((route, published.upstreams if published else ()))
        return tuple(found)

    def _entry(self, route: FixedRoute) -> AppRoutes:
        app = PREFIX + route.name
        targets = tuple(self._target(route, *place) for place in self._places(route))
        self._prober.watch(app, targets)
        verdicts = self._prober.verdicts(app)
        ready = tuple(t for t in targets if (v := verdicts.get(t.replica)) is not None and v.ready)
        upstreams = tuple(Upstream(id=t.replica, address=t.address or "", port=t.port or 0, release=0) for t in ready)
        return replace(_bare(route), upstreams=upstreams)

    def _places(self, route: FixedRoute) -> tuple[tuple[str, int, str], ...]:
        """Return (address, port, name) of every target that may be one now."""
        places = []
        for text in route.targets:
            host, port = read_target(text)
            for address in self._addresses(host, port):
                why = self._judge(host, port, address)
                if why:
                    self._say(PREFIX + route.name, f"target {text}: {why}")
                else:
                    places.append((address, port, host))
        return tuple(places)

    def _addresses(self, host: str, port: int) -> tuple[str, ...]:
        now = self._clock.now().steady
        seen = self._found.get((host, port))
        if seen is not None and now - seen[0] < RESOLVE_EVERY_S:
            return seen[1]
        found = tuple(self._resolve(host, port)) or (seen[1] if seen else ())
        self._found[host, port] = (now, found)
        return found

    def _judge(self, host: str, port: int, address: str) -> str:
        return self._fence().refuse(host, port, address, is_ours=is_of_this_machine(address))

    def _target(self, route: FixedRoute, address: str, port: int, host: str) -> Target:
        return Target(
            replica=f"{PREFIX}{route.name}/{address}:{port}",
            app=PREFIX + route.name,
            address=address,
            port=port,
            health=Health(path=route.health_path),
            host=host,
            https=False,
            method="path" if route.health_path else "root",
            started=0.0,
        )

    def _say(self, app: str, text: str) -> None:
        if self._said.get(app) != text:
            self._said[app] = text
            log.warning("a fixed route is not in effect as requested", route=app.removeprefix(PREFIX), why=text)


def _bare(route: FixedRoute) -> AppRoutes:
    rule = Rule(host=route.host, path=route.path, strip=route.strip)
    return AppRoutes(app=PREFIX + route.name, rules=(rule,))
