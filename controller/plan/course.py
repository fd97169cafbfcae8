"""
From where the app should be now to the few operations that are safe now.

A strategy names sets: who serves, who leaves, which slots to fill. Everything about order stands here,
once for all strategies: publish, confirm, drain, stop, kill, remove.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from controller.clock import Instant
from controller.plan.inherit import share_claims
from controller.plan.operations import (
    KillReplica,
    Operation,
    PublishRoutes,
    RemoveReplica,
    StopReplica,
)
from controller.plan.picture import Picture
from controller.plan.situation import Decision, Memory, Note
from controller.routing.build import announce, build_routes
from controller.routing.table import AppRoutes, Group, Mode, Rule, Upstream
from controller.spec.model import AppSpec
from controller.world.model import Replica

SLACK_S = 0.5
"""How long after a drain's limit the workers' own cut may take before we no longer wait for its report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Where the app should be now."""

    rules_of: AppSpec | None
    """Whose routes and policy are in force; None: no routes, only what is left to drain."""
    serve: tuple[Replica, ...] = ()
    preview: tuple[Replica, ...] = ()
    rest: tuple[Replica, ...] = ()
    """Out of traffic but kept running."""
    park: tuple[tuple[Replica, str], ...] = ()
    """Out of traffic, stopped, kept for the way back."""
    retire: tuple[tuple[Replica, str], ...] = ()
    """Out of traffic, stopped, removed; and why."""
    fill: tuple[Operation, ...] = ()
    """Starts that may happen now."""
    mode: Mode = "serve"
    hold_s: float = 30.0
    drain_s: float = 30.0
    assets_s: float = 0.0
    """How long those that leave are still asked for old assets, before they drain."""
    because: str = ""
    """Why the routes change, if they do."""
    coming: tuple[Rule, ...] = ()
    for_heirs: bool = False
    """Of all rules only those stay that another app is about to take over."""
    weights: tuple[tuple[int, int], ...] = ()
    look_again_s: float | None = None


def carry_out(p: Picture, course: Course, memory: Memory, notes: tuple[Note, ...] = ()) -> Decision:
    """Return the operations of *course* that are safe now, and when to look again."""
    leaving = (*course.rest, *(r for r, _ in course.park), *(r for r, _ in course.retire))
    memory = _note_drains(p, memory, leaving, course.assets_s + course.drain_s)
    routes = _routes(p, course, memory, leaving)
    publish: tuple[Operation, ...] = ()
    if routes != p.s.world.routing.published:
        publish = (PublishRoutes(routes, course.because or _say_change(p, routes)),)
    stops: list[Operation] = []
    waits = [course.look_again_s]
    for replica, why in (*course.retire, *course.park):
        operation, wait = _let_go(p, routes, replica, why, is_parked=(replica, why) in course.park)
        stops += [operation] if operation else []
        waits.append(wait)
    for until in memory.drains.values():
        left_s = until.steady - p.s.now.steady
        waits += [wait for wait in (left_s + SLACK_S, left_s - course.drain_s) if wait > 0]
    due = [max(0.02, w) for w in waits if w is not None]
    return Decision(
        memory=memory,
        operations=(*publish, *stops, *course.fill),
        notes=notes,
        look_again_s=min(due) if due else None,
    )


def _note_drains(p: Picture, memory: Memory, leaving: Iterable[Replica], drain_s: float) -> Memory:
    """Fix the moment at which each leaving replica's open requests are cut; forget those that left."""
    drains: dict[str, Instant] = {}
    for replica in leaving:
        if p.entry(replica) is not None or p.confirmed_entry(replica) is not None:
            drains[replica.id] = memory.drains.get(replica.id) or p.s.now.later(drain_s)
    return memory if drains == dict(memory.drains) else replace(memory, drains=drains)


def _routes(p: Picture, course: Course, memory: Memory, leaving: Iterable[Replica]) -> AppRoutes | None:
    upstreams = [_upstream(p, r, "live") for r in course.serve]
    upstreams += [_upstream(p, r, "preview") for r in course.preview]
    named = {u.id for u in upstreams}
    for replica in (*leaving, *p.replicas):
        if replica.id not in named and (upstream := _farewell(p, course, replica, memory)):
            upstreams.append(upstream)
            named.add(replica.id)
    if course.rules_of is None:
        left = tuple(sorted(upstreams, key=lambda u: (u.release, u.id)))
        return AppRoutes(app=p.s.app, upstreams=left) if left else None
    message = p.s.memory.maintenance
    mode, hold_s = _keep_held(p, course)
    routes = build_routes(
        course.rules_of,
        [u for u in upstreams if u.address],
        mode="maintenance" if message is not None else mode,
        hold_s=hold_s,
        message=message or "",
        weights=course.weights,
        coming=course.coming,
    )
    if routes is None:
        return None
    if course.for_heirs:
        routes = replace(routes, rules=())
    elif p.live is None and not course.serve:
        routes = replace(routes, rules=tuple(map(announce, routes.rules)))
    return share_claims(p, routes)


def _keep_held(p: Picture, course: Course) -> tuple[Mode, float]:
    """Return the mode, and each request's longest wait: on the way to a release what waits is let go to somebody."""
    published, rollout = p.s.world.routing.published, p.s.memory.rollout
    is_held = published is not None and published.mode == "hold" and p.live is not None
    if published is None or not is_held or course.mode != "serve" or course.serve:
        return course.mode, course.hold_s
    is_under_way = rollout is not None and rollout.switched is None
    return ("hold", published.hold_s) if is_under_way else ("serve", course.hold_s)


def _upstream(p: Picture, replica: Replica, group: Group) -> Upstream:
    return Upstream(
        id=replica.id,
        address=replica.address or "",
        port=replica.port or 0,
        release=serving_release(p, replica),
        group=group,
    )


def serving_release(p: Picture, replica: Replica) -> int:
    """Return the release that a replica serves now: the one it was made for, or a later one that kept it."""
    rollout, live, target = p.s.memory.rollout, p.live, p.target
    has_not_moved = rollout is None or rollout.switched is None or target is None
    if live is not None and live.container_digest == replica.digest and has_not_moved:
        return live.number
    if target is not None and target.container_digest == replica.digest:
        return target.number
    return live.number if live is not None and live.container_digest == replica.digest else replica.release


def _farewell(p: Picture, course: Course, replica: Replica, memory: Memory) -> Upstream | None:
    """Return the entry of a replica that takes no new requests; None once nothing of it is left."""
    was = p.entry(replica)
    if was is None or p.is_leaving(replica):
        return None
    if replica.state != "running":
        return replace(was, state="gone", until=None)
    until = memory.drains.get(replica.id)
    limit = until.steady if until else p.s.now.steady
    is_old = p.target is not None and replica.digest != p.target.container_digest
    if course.assets_s and is_old and was.state in ("ready", "assets") and p.s.now.steady < limit - course.drain_s:
        return replace(was, state="assets", until=None)
    is_confirmed = (seen := p.confirmed_entry(replica)) is not None and seen.state == "draining"
    is_over = replica.id in p.s.world.routing.drained or p.s.now.steady > limit + SLACK_S
    if was.state == "draining" and is_confirmed and is_over:
        return None
    return replace(was, state="draining", until=was.until if was.state == "draining" else limit)


def _let_go(
    p: Picture, routes: AppRoutes | None, replica: Replica, why: str, *, is_parked: bool
) -> tuple[Operation | None, float | None]:
    """Return the next step of a replica on its way out, and when to look at it again."""
    planned = next((u for u in routes.upstreams if u.id == replica.id), None) if routes else None
    entries = [e for e in (planned, p.entry(replica), p.confirmed_entry(replica)) if e is not None]
    if any(e.state != "gone" for e in entries):
        return None, None
    if replica.state in ("created", "exited"):
        return (None if is_parked else RemoveReplica(replica.id, replica.name, why)), None
    sent = p.s.memory.stopping.get(replica.id)
    if sent is None:
        return StopReplica(replica.id, replica.name, why), None
    grace_s = _grace_s(p, replica)
    left_s = sent.steady + grace_s - p.s.now.steady if sent.boot == p.s.now.boot else 0.0
    if left_s > 0:
        return None, left_s
    return KillReplica(replica.id, replica.name, f"still running {grace_s:g} s after its stop signal"), 1.0


def _grace_s(p: Picture, replica: Replica) -> float:
    release = p.maker(replica)
    return release.spec.stop_grace if release else 10.0


def _say_change(p: Picture, routes: AppRoutes | None) -> str:
    if routes is None:
        return "nothing is left to route"
    now = {u.id for u in routes.upstreams if u.state == "ready"}
    published = p.s.world.routing.published
    before = {u.id for u in published.upstreams if u.state == "ready"} if published else set()
    names = {r.id: r.name for r in p.replicas}
    came = [names.get(i, i[:12]) for i in sorted(now - before)]
    went = [names.get(i, i[:12]) for i in sorted(before - now)]
    parts = [f"{', '.join(came)} ready"] if came else []
    parts += [f"{', '.join(went)} out"] if went else []
    left = {u.id for u in published.upstreams} - {u.id for u in routes.upstreams} - before if published else set()
    parts += [f"{', '.join(names.get(i, i[:12]) for i in sorted(left))} drained"] if left else []
    return "; ".join(parts) or "routes or settings changed"
