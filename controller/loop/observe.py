"""One look at the outside, frozen: what a pass may know of its app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from controller.clock import Clock, Instant
from controller.errors import Retry
from controller.loop.handover import Files, NoFiles, Secrets
from controller.loop.masking import mask_world
from controller.plan.picture import Picture
from controller.plan.situation import Decision, Release, Situation, Standing
from controller.ports import Engine, History, Prober, Publisher, Target
from controller.spec.model import AppSpec
from controller.world.model import Replica, World


class Directory(Protocol):
    """The watched directory, as far as a pass asks it."""

    def standing(self, app: str) -> Standing: ...


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
    files: Files = NoFiles()  # noqa: RUF009 - it has no state
    tls_hosts: Callable[[], frozenset[str]] = frozenset
    begin: Callable[[str], None] = lambda _app: None
    """Told of every pass before it looks."""
    watch: Callable[[Situation, Decision], None] = lambda _situation, _decision: None
    """Told of every pass, before it acts."""


def observe(app: str, ports: Ports) -> Situation:
    """Return all that is known of *app* now; an engine that is away is part of the picture."""
    ports.begin(app)
    memory, releases, orders = ports.history.load(app)
    standing = ports.directory.standing(app)
    now = ports.clock.now()
    situation = Situation(
        app=app,
        standing=standing,
        memory=memory,
        world=_look_around(app, ports),
        now=now,
        releases=releases,
        orders=tuple(orders),
        tls_hosts=ports.tls_hosts(),
    )
    if situation.world.engine_up:
        ports.prober.watch(app, make_targets(situation, now))
        situation = replace(situation, world=replace(situation.world, verdicts=ports.prober.verdicts(app)))
    return replace(situation, world=mask_world(situation.world, partial(ports.secrets.mask, app)))


def _look_around(app: str, ports: Ports) -> World:
    routing = ports.publisher.routing(app)
    try:
        replicas = ports.engine.observe(app)
    except Retry:
        return World(engine_up=False, routing=routing, verdicts=ports.prober.verdicts(app))
    return World(
        replicas=replicas,
        routing=routing,
        resolutions=ports.engine.resolutions(app),
        secret_versions=tuple(sorted(ports.secrets.versions(app).items())),
    )


def make_targets(situation: Situation, now: Instant) -> tuple[Target, ...]:
    """Return what the prober has to watch: every replica whose release is known and that is not to stop.

    A server that was asked to stop must not be kept from it by a probe's kept connection.
    """
    p = Picture(situation)
    found = ((replica, _release_of(p, replica)) for replica in p.replicas if not p.is_leaving(replica))
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
