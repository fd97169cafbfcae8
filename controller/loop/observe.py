"""One look at the outside, frozen: what a pass may know of its app."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from controller.clock import Clock, Instant
from controller.errors import Retry
from controller.loop.handover import Files, NoFiles, Secrets
from controller.loop.masking import mask_world
from controller.plan.claims import Claim, claims_of, keepers
from controller.plan.picture import Picture
from controller.plan.probing import candidate_of, judge_of, question_of, trial_id
from controller.plan.situation import Decision, Heir, Release, Situation, Standing
from controller.ports import Engine, History, Prober, Publisher, Target
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
    heirs: Callable[[str, Mapping[Claim, str]], Mapping[Claim, Heir]] = lambda _app, _claims: {}
    """Who else asks for what an app has in the table; each claim comes with the app that it is kept for already."""
    watch: Callable[[Situation, Decision], None] = lambda _situation, _decision: None
    """Told of every pass once its intent is written, before it acts."""


def observe(app: str, ports: Ports) -> Situation:
    """Return all that is known of *app* now; an engine that is away is part of the picture."""
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
    situation = _with_claims(situation, ports)
    if _is_canary(situation):
        traffic = read_traffic(app, ports.counters())
        situation = replace(situation, world=replace(situation.world, traffic=traffic))
    if situation.world.engine_up:
        ports.prober.watch(app, make_targets(situation, now))
        situation = replace(situation, world=replace(situation.world, verdicts=ports.prober.verdicts(app)))
    return replace(situation, world=mask_world(situation.world, partial(ports.secrets.mask, app)))


def _with_claims(situation: Situation, ports: Ports) -> Situation:
    """Return the situation with what others have of the app's claims, and ask for."""
    p, app, published = Picture(situation), situation.app, situation.world.routing.published
    wanted = situation.standing.wanted
    specs = [release.spec for release in (p.live, p.target) if release is not None]
    specs += [wanted.spec] if wanted is not None else []
    asked = frozenset[Claim]().union(*(claims_of(spec) for spec in specs))
    has = dict.fromkeys(asked, "") | keepers(published.rules if published is not None else ())
    return replace(situation, foreign=ports.publisher.foreign(app, asked), heirs=ports.heirs(app, has))


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
    return tuple(target for r in p.replicas if not p.is_leaving(r) for target in _targets(p, r, now))


def _targets(p: Picture, replica: Replica, now: Instant) -> Iterator[Target]:
    """Yield what decides on the replica's traffic, and what it has to pass beside that for the release to come."""
    judge, candidate = judge_of(p, replica), candidate_of(p, replica)
    if judge is not None:
        yield _target(p, replica, judge, now)
    if candidate is not None:
        yield replace(_target(p, replica, candidate, now), replica=trial_id(replica, candidate), known_ready=False)


def _target(p: Picture, replica: Replica, release: Release, now: Instant) -> Target:
    question = question_of(release, p.s.tls_hosts)
    running_s = max(0.0, now.wall - replica.started)
    return Target(
        replica=replica.id,
        app=p.s.app,
        address=replica.address,
        port=replica.port,
        health=question.health,
        host=question.host,
        https=question.https,
        method=question.method,
        started=now.steady - running_s if replica.started else now.steady,
        verdict=replica.health,
        engine_log=replica.health_log,
        running=replica.state == "running",
        known_ready=p.is_trusted(replica),
    )
