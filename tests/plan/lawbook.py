"""Laws that are told from one situation alone: each function returns what is broken, or nothing."""

from __future__ import annotations

from controller.plan.operations import Operation, RestartReplica, RunBefore, StartReplica
from controller.plan.picture import Picture
from controller.plan.situation import Decision, Release, Situation
from controller.routing.table import AppRoutes
from controller.spec.model import AppSpec, Recreate, Rolling
from controller.world.model import Replica


def two_writers(situation: Situation, operation: Operation) -> str:
    """Say whether *operation*, just carried out, has started a container of a single writer beside another one."""
    started = _started(situation, operation)
    if started is None or not _is_single_writer(situation, started):
        return ""
    for other in situation.world.replicas:
        runs = other.id != started.id and other.kind != "run" and other.state in ("running", "paused")
        if runs and _is_single_writer(situation, other) and _write_the_same(started, other):
            return f"recreate: {started.name} was started while {other.name} still runs"
    return ""


def _started(situation: Situation, operation: Operation) -> Replica | None:
    match operation:
        case RestartReplica():
            return next((r for r in situation.world.replicas if r.id == operation.replica), None)
        case StartReplica() | RunBefore():
            kind = "replica" if isinstance(operation, StartReplica) else "before"
            index = operation.index if isinstance(operation, StartReplica) else 0
            made = [
                r
                for r in situation.world.replicas
                if (r.release, r.index, r.kind) == (operation.release, index, kind) and r.state == "running"
            ]
            return max(made, key=lambda r: (r.created, r.id), default=None)
    return None


def _is_single_writer(situation: Situation, replica: Replica) -> bool:
    release = _newest_of(situation, replica)
    return release is not None and isinstance(release.spec.strategy, Recreate)


def _newest_of(situation: Situation, replica: Replica) -> Release | None:
    known = (r for _, r in sorted(situation.releases.items(), reverse=True))
    return next((r for r in known if r.container_digest == replica.digest), None)


def _write_the_same(one: Replica, other: Replica) -> bool:
    """Replicas of one release were asked for together; all others share what they write to."""
    if "before" in (one.kind, other.kind) or one.digest != other.digest:
        return True
    return one.index == other.index


def history_is_wrong(situation: Situation) -> str:
    """Say whether the history names another release as live than the one that serves."""
    memory, rollout = situation.memory, situation.memory.rollout
    rows = {n: r.outcome for n, r in sorted(situation.releases.items())}
    live = [n for n, outcome in rows.items() if outcome == "live"]
    if [n for n in live if n != memory.live]:
        return f"history: {live} are live, and release {memory.live} serves: {rows}"
    is_between = rollout is not None and (rollout.switched is not None or rollout.kind == "undo")
    if memory.live is not None and not live and not is_between:
        return f"history: no row is live, and release {memory.live} serves: {rows}"
    return ""


def begins_by_itself(before: Situation, decision: Decision, given_up: frozenset[str]) -> str:
    """Say whether *decision* tries again by itself what failed or what a person took back."""
    verbs = {order.id: order.verb for order in before.orders}
    if {verbs[a.order] for a in decision.answers} & {"apply", "retry", "unpin"}:
        return ""
    again = [r.number for r in _begun(before, decision) if _what(r) in given_up]
    return f"law 5: release {again[0]} was begun by the file, which nobody has changed" if again else ""


def what_is_given_up(before: Situation, decision: Decision, given_up: frozenset[str]) -> frozenset[str]:
    """Return the digests that nobody but a person, or another file, may begin again after *decision*."""
    given_up -= {_what(r) for r in _begun(before, decision)}
    was, now = before.memory.rollout, decision.memory.rollout
    if was is None or was.kind != "apply" or (now is not None and now.release == was.release):
        return given_up
    left = before.releases[was.release]
    ended = {r.number: r.outcome for r in decision.releases}.get(was.release)
    is_left = ended in ("failed", "rolled_back") or (now is not None and now.kind == "rollback")
    return given_up | {_what(left)} if is_left else given_up


def nobody_is_left(situation: Situation, before: AppRoutes | None) -> str:
    """Say whether the table just published takes out the last ready replicas, with nobody and no hold in their place."""
    p, routes, live = Picture(situation), situation.world.routing.published, situation.releases.get(_live(situation))
    if before is None or live is None or situation.standing.gone or not live.spec.replicas or not live.spec.routes:
        return ""
    if p.target is not None and may_be_without(p.target.spec):
        return ""  # the person asked for it
    if routes is not None and (routes.mode != "serve" or any(u.state == "ready" for u in routes.upstreams)):
        return ""
    ready = {r.id: r.name for r in p.replicas if p.is_ready(r)}
    out = [ready[u.id] for u in before.upstreams if u.state == "ready" and u.group == "live" and u.id in ready]
    return f"law 2: {out} were ready and routed, and now nobody is" if out else ""


def _live(situation: Situation) -> int:
    return situation.memory.live or 0


def may_be_without(spec: AppSpec) -> bool:
    strategy = spec.strategy
    return (isinstance(strategy, Rolling) and strategy.limits(spec.replicas)[1] >= spec.replicas) or spec.replicas == 0


def _what(release: Release) -> str:
    """A new value of a secret is a new reason."""
    return f"{release.digest} {release.secret_versions}"


def _begun(before: Situation, decision: Decision) -> list[Release]:
    return [r for r in decision.releases if r.number > before.memory.last_release and r.kind == "apply"]
