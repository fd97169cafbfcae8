"""What fails a rollout before its switch: too many exits, and what is not ready in its time."""

from __future__ import annotations

from controller.plan.begin import fail
from controller.plan.operations import KeepLogs
from controller.plan.picture import Muster, Picture
from controller.plan.probing import candidate_of, is_proven, proof_of
from controller.plan.situation import Decision, Release, Rollout, Slot
from controller.world.model import Replica

MOST_EXITS = 3
"""One replica's exits that fail a rollout at once."""


def find_trouble(p: Picture, release: Release, rollout: Rollout) -> Decision | None:
    """Return the decision that fails the rollout, or first keeps the logs for it; None: no trouble."""
    muster = p.muster(release)
    if (ended := _find_exits(p, release, muster)) is not None:
        return ended
    late = (r for r in muster.keep if not is_proven(p, r))
    for replica in late:
        if _is_late(p, release, rollout, replica):
            return _fail_late(p, release, replica)
    return None


def _find_exits(p: Picture, release: Release, muster: Muster) -> Decision | None:
    names = {index: f"replica {index}" for index in muster.missing}
    names |= {replica.index: replica.name for replica in p.of(release)}
    for index, name in sorted(names.items()):
        slot = p.slot(index)
        if slot.exits >= MOST_EXITS:
            return fail(p, f"{name} {slot.reason}, {slot.exits} times in a row", slot.lines)
    return None


def _is_late(p: Picture, release: Release, rollout: Rollout, replica: Replica) -> bool:
    """Say whether it was not ready by its deadline, or has been unready for as long since."""
    deadline = rollout.deadlines.get(replica.index)
    if deadline is not None:
        return p.s.now.steady >= deadline.steady
    return _unready_s(p, replica) > release.spec.deadline


def _unready_s(p: Picture, replica: Replica) -> float:
    proof = proof_of(p, replica)
    return p.s.now.steady - proof.since if proof is not None and proof.ever_ready and not proof.ready else 0.0


def _fail_late(p: Picture, release: Release, replica: Replica) -> Decision:
    limit_s, slot = release.spec.deadline, p.slot(replica.index)
    if (proof := proof_of(p, replica)) is not None and proof.ever_ready:
        return _fail_with_logs(p, replica, f"{replica.name} has not been ready for {limit_s:g} s: {proof.answer}", slot)
    if candidate_of(p, replica) is not None:
        # It serves, and goes on to: its log is nothing to keep, what it answers says it all.
        answer = proof.answer if proof is not None else "not asked yet"
        return fail(p, f"{replica.name} did not pass the new readiness check within {limit_s:g} s: {answer}")
    if slot.exits and replica.id not in p.s.memory.tails:
        # What it said as it ended tells more than the silence of the one that was started since.
        times = "once" if slot.exits == 1 else f"{slot.exits} times"
        reason = f"{replica.name} was not ready {limit_s:g} s after its first start"
        return fail(p, f"{reason}: it {slot.reason}, {times}", slot.lines)
    reason = f"{replica.name} was not ready {limit_s:g} s after its start: {p.answer(replica)}"
    return _fail_with_logs(p, replica, reason + (f"; one before it {slot.reason}" if slot.exits else ""), slot)


def _fail_with_logs(p: Picture, replica: Replica, reason: str, slot: Slot) -> Decision:
    if p.live is not None and p.live.container_digest == replica.digest:
        return fail(p, reason)
    if replica.id not in p.s.memory.tails:
        operation = KeepLogs(replica.id, replica.name, "not ready at its deadline")
        return Decision(memory=p.s.memory, operations=(operation,))
    return fail(p, reason, p.s.memory.tails[replica.id] or slot.lines)
