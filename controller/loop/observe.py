"""One look at the outside, frozen: what a pass may know of its app."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from controller.clock import Clock, Instant
from controller.errors import Retry
from controller.plan.picture import Picture
from controller.plan.situation import Decision, Release, Situation, Standing
from controller.ports import Engine, History, Prober, Publisher, Target
from controller.spec.model import AppSpec
from controller.world.model import Replica, World


class Directory(Protocol):
    """The watched directory, as far as a pass asks it."""

    def standing(self, app: str) -> Standing: ...


class Secrets(Protocol):
    """The secrets of apps, as far as a pass asks them."""

    def versions(self, app: str) -> Mapping[str, int]: ...
    def values(self, app: str, names: Collection[str]) -> Mapping[str, str]: ...


class NoSecrets:
    """Nobody has any."""

    def versions(self, app: str) -> Mapping[str, int]:
        return {}

    def values(self, app: str, names: Collection[str]) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """All edges, as the loop holds them."""

    engine: Engine
    prober: Prober
    publisher: Publisher
    history: History
    directory: Directory
    clock: Clock
    secrets: Secrets
    tls_hosts: Callable[[], frozenset[str]] = frozenset
    watch: Callable[[Situation, Decision], None] = lambda _situation, _decision: None
    """Told of every pass, before it acts."""


def observe(app: str, ports: Ports) -> Situation:
    """Return all that is known of *app* now; an engine that is away is part of the picture."""
    memory, releases, orders = ports.history.load(app)
    standing = ports.directory.standing(app)
    now = ports.clock.now()
    situation = Situation(
        app=app,
        standing=standing,
        memory=memory,
        world=_look_around(app, standing, ports),
        now=now,
        releases=releases,
        orders=tuple(orders),
        tls_hosts=ports.tls_hosts(),
    )
    if not situation.world.engine_up:
        return situation
    ports.prober.watch(app, make_targets(situation, now))
    return replace(situation, world=replace(situation.world, verdicts=ports.prober.verdicts(app)))


def _look_around(app: str, standing: Standing, ports: Ports) -> World:
    routing = ports.publisher.routing(app)
    try:
        replicas = ports.engine.observe(app)
    except Retry:
        return World(engine_up=False, routing=routing, verdicts=ports.prober.verdicts(app))
    return World(
        replicas=replicas,
        routing=routing,
        resolutions=ports.engine.resolutions(app),
        secret_versions=_versions(app, standing, ports),
    )


def _versions(app: str, standing: Standing, ports: Ports) -> tuple[tuple[str, int], ...]:
    if standing.wanted is None or not standing.wanted.spec.secrets:
        return ()
    known = ports.secrets.versions(app)
    return tuple(sorted((s.name, known.get(s.name, 0)) for s in standing.wanted.spec.secrets))


def make_targets(situation: Situation, now: Instant) -> tuple[Target, ...]:
    """Return what the prober has to watch: every replica whose release is known."""
    p = Picture(situation)
    found = ((replica, _release_of(p, replica)) for replica in p.replicas)
    return tuple(_target(p, replica, release, now) for replica, release in found if release is not None)


def _release_of(p: Picture, replica: Replica) -> Release | None:
    """Return the release whose health rules count for a replica: the newest that keeps it."""
    known = [r for r in (p.target, p.live) if r is not None]
    known += [r for _, r in sorted(p.s.releases.items(), reverse=True)]
    return next((r for r in known if r.container_digest == replica.digest), None)


def _target(p: Picture, replica: Replica, release: Release, now: Instant) -> Target:
    spec = release.spec
    running_s = max(0.0, now.wall - replica.started)
    return Target(
        replica=replica.id,
        app=p.s.app,
        address=replica.address,
        port=replica.port,
        health=spec.health,
        host=spec.probe_host,
        https=_redirects_plain(spec, p.s.tls_hosts),
        method=_method(spec, release),
        started=now.steady - running_s if replica.started else now.steady,
        verdict=replica.health,
        engine_log=replica.health_log,
        running=replica.state == "running",
        known_ready=p.is_trusted(replica),
    )


def _method(spec: AppSpec, release: Release) -> str:
    if spec.health.command is not None:
        return "engine"
    if spec.health.path is not None:
        return "path"
    if release.image_healthcheck:
        return "engine"
    return "root" if spec.port is not None else "alive"


def _redirects_plain(spec: AppSpec, tls_hosts: frozenset[str]) -> bool:
    if spec.proxy.https in ("redirect", "only"):
        return True
    return spec.proxy.https == "auto" and spec.probe_host in tls_hosts
