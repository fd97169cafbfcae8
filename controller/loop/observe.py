"""One look at the outside, frozen: what a pass may know of its app."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from controller.clock import Clock, Instant
from controller.errors import Retry
from controller.loop.handover import Files, NoFiles, Secrets
from controller.loop.masking import mask_world
from controller.plan.picture import Picture
from controller.plan.situation import Decision, Release, Situation, Standing
from controller.ports import Engine, History, Prober, Publisher, Target
from controller.spec.model import AppSpec
from controller.world.model import Replica, Traffic, World

SERVER_ERROR = 5
"""Class of the statuses from 500 up."""


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
    """Names with a certificate while TLS is served; wildcards as they are."""
    counters: Callable[[], Mapping[str, Any]] = dict
    """What all workers counted, as the publisher sums it."""
    begin: Callable[[str], None] = lambda _app: None
    """Told of every pass before it looks."""
    watch: Callable[[Situation, Decision], None] = lambda _situation, _decision: None
    """Told of every pass once its intent is written, before it acts."""


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
    if _is_canary(situation):
        traffic = read_traffic(app, ports.counters())
        situation = replace(situation, world=replace(situation.world, traffic=traffic))
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


def _is_canary(situation: Situation) -> bool:
    rollout = situation.memory.rollout
    target = situation.releases.get(rollout.release) if rollout and rollout.switched is None else None
    return target is not None and target.spec.strategy.type == "canary"


def read_traffic(app: str, counters: Mapping[str, Any]) -> Mapping[int, Traffic]:
    """Return what the workers' counters say of each release of *app*."""
    found: dict[int, Traffic] = {}
    bounds = tuple(counters.get("bounds", ()))
    for row in counters.get("requests", ()):
        if row.get("app") != app:
            continue
        seen = found.get(row["release"], Traffic(buckets=(0,) * len(row["buckets"]), bounds=bounds))
        found[row["release"]] = replace(
            seen,
            requests=seen.requests + row["count"],
            errors=seen.errors + (row["count"] if row["class"] == SERVER_ERROR else 0),
            buckets=tuple(a + b for a, b in zip(seen.buckets, row["buckets"], strict=True)),
        )
    return found


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
    host = spec.probe_host
    is_covered = host in tls_hosts or "*." + host.partition(".")[2] in tls_hosts
    return spec.proxy.https == "auto" and is_covered
