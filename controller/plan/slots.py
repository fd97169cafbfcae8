"""Filling a release's slots: mend what broke, start what is missing, never faster than the backoff allows."""

from __future__ import annotations

from dataclasses import dataclass

from controller.plan.operations import KeepLogs, Operation, RestartReplica, StartReplica
from controller.plan.picture import Muster, Picture
from controller.plan.situation import Release
from controller.world.model import Replica


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """What the slots need now."""

    operations: tuple[Operation, ...]
    retire: tuple[tuple[Replica, str], ...]
    serve: tuple[Replica, ...]
    """Kept replicas, and broken ones that go on until their successor is ready."""
    started: int
    """How many of the operations start a replica."""
    look_again_s: float | None


def fill_slots(p: Picture, release: Release, muster: Muster, because: str, *, budget: int | None = None) -> Filling:
    """Return what fills the release's slots, with at most *budget* starts now (None: no limit)."""
    logs, retire, still = _mend(p, release, muster)
    blocked = {r.index for r, _ in muster.broken if r.id not in p.s.memory.tails} | {r.index for r in still}
    replaced = {r.index for r in still if r.id in p.s.memory.tails}
    starts: list[Operation] = []
    waits: list[float] = []
    room = len(muster.missing) if budget is None else max(0, budget)
    for index in muster.missing:
        if _waits_for_stop(p, release, index):
            continue
        if (idle := muster.idle.get(index)) is not None:
            starts.append(RestartReplica(idle.id, idle.name, "it was only stopped"))
        elif index in blocked - replaced:
            continue
        elif (wait := p.may_fill_in_s(index)) > 0:
            waits.append(wait)
        else:
            starts.append(StartReplica(release.number, index, _why(p, index, because)))
    return Filling(
        operations=(*logs, *starts[:room]),
        retire=(*retire, *((r, "more replicas than the release asks for") for r in muster.surplus)),
        serve=(*muster.keep, *still),
        started=min(room, len(starts)),
        look_again_s=min(waits) if waits else None,
    )


def _mend(
    p: Picture, release: Release, muster: Muster
) -> tuple[list[Operation], list[tuple[Replica, str]], list[Replica]]:
    """Return the logs to keep first, who is to go, and who serves on until a successor is ready."""
    logs: list[Operation] = []
    retire: list[tuple[Replica, str]] = []
    still: list[Replica] = []
    successors = {r.index for r in p.ready(muster.keep)}
    unsettled = any(not p.is_ready(r) for r in muster.keep)
    for replica, why in muster.broken:
        worn = replica.state == "running" and not replica.drift
        if worn and unsettled and replica.id not in p.s.memory.tails:
            still.append(replica)  # one at a time: the others may yet recover
            continue
        unsettled = unsettled or worn
        if replica.id not in p.s.memory.tails:
            logs.append(KeepLogs(replica.id, replica.name, why))
        if _serves_on(p, release, replica) and replica.index not in successors:
            still.append(replica)
        elif replica.id in p.s.memory.tails:
            retire.append((replica, why))
    return logs, retire, still


def _serves_on(p: Picture, release: Release, replica: Replica) -> bool:
    # A single writer's successor may not start before it has stopped; a rollout has its own limits to keep.
    may_overlap = release.spec.strategy.type != "recreate" and p.s.memory.rollout is None
    return bool(replica.drift) and p.is_ready(replica) and may_overlap


def _waits_for_stop(p: Picture, release: Release, index: int) -> bool:
    """Say whether something still runs beside which a single writer must not start."""
    if not _is_single_writer(release):
        return False
    return any(_is_in_the_way(p, release, index, r) for r in p.s.world.replicas if r.state in ("running", "paused"))


def _is_in_the_way(p: Picture, release: Release, index: int, other: Replica) -> bool:
    if other.kind == "replica" and other.digest == release.container_digest:
        return other.index == index
    # A release that may run beside others says so itself: waiting for it here could last for ever.
    return other.kind != "run" and _is_single_writer(p.maker(other))


def _is_single_writer(release: Release | None) -> bool:
    return release is None or release.spec.strategy.type == "recreate"


def _why(p: Picture, index: int, because: str) -> str:
    slot = p.slot(index)
    return f"replaces one that {slot.reason}" if slot.reason and slot.exits else because
