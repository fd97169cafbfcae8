"""What the end of a pass's operations adds to memory."""

from __future__ import annotations

from dataclasses import replace

from controller.clock import Instant
from controller.plan.begin import turn_back
from controller.plan.operations import KeepLogs, PublishRoutes, RestartReplica, RunBefore, StartReplica, StopReplica
from controller.plan.picture import Picture
from controller.plan.situation import Done, Memory, Situation, Slot
from controller.routing.build import build_policy, build_rules
from controller.world.model import Replica

NOT_STARTED = "not_started"
"""In the data of a rollout that goes back: why something of it could not be started."""


def settle(situation: Situation, memory: Memory, done: tuple[Done, ...], now: Instant) -> Memory:
    """Return *memory* with what came out: stop signals sent, logs kept, exits counted, starts that failed."""
    for one in done:
        memory = _settle_one(situation, memory, one, now)
    return memory


def _settle_one(situation: Situation, memory: Memory, done: Done, now: Instant) -> Memory:
    operation = done.operation
    if done.state == "failed":
        memory = _settle_way_back(memory, done)
        return memory if done.wait else _settle_refusal(situation, memory, done, now)
    if done.state != "done":
        return memory
    match operation:
        case StopReplica():
            return replace(memory, stopping={**memory.stopping, operation.replica: now})
        case RestartReplica():
            left = {i: m for i, m in memory.stopping.items() if i != operation.replica}
            return replace(memory, stopping=left)
        case KeepLogs():
            return _settle_logs(situation, memory, operation, done.lines, now)
        case RunBefore() if memory.rollout is not None:
            data = {**memory.rollout.data, "before": "started"}
            return replace(memory, rollout=replace(memory.rollout, data=data))
        case _:
            return memory


def _settle_logs(
    situation: Situation, memory: Memory, operation: KeepLogs, lines: tuple[str, ...], now: Instant
) -> Memory:
    """Keep the lines; a replica's end is counted once, with its logs."""
    if operation.replica in memory.tails:
        return memory
    memory = replace(memory, tails={**memory.tails, operation.replica: lines})
    replica = next((r for r in situation.world.replicas if r.id == operation.replica), None)
    if replica is None or replica.kind != "replica" or _is_only_late(memory, replica):
        return memory
    picture = Picture(situation)
    slot = Slot(
        exits=picture.slot(replica.index).exits + 1,
        last=now,
        exit_code=replica.exit_code,
        reason=operation.because,
        lines=lines,
    )
    return replace(memory, slots={**memory.slots, replica.index: slot})


def _is_only_late(memory: Memory, replica: Replica) -> bool:
    """Say whether its logs were kept because a deadline passed: that ends the rollout, it is no exit."""
    return memory.rollout is not None and replica.state == "running" and not replica.drift


def _settle_way_back(memory: Memory, done: Done) -> Memory:
    """Remember that going back was tried: what cannot be started is not waited for without an end."""
    rollout = memory.rollout
    if rollout is None or not rollout.failing or not isinstance(done.operation, StartReplica | RestartReplica):
        return memory
    return replace(memory, rollout=replace(rollout, data={**rollout.data, NOT_STARTED: done.text}))


def _has_news(situation: Situation, memory: Memory, operation: PublishRoutes) -> bool:
    """Say whether a table has anything that what serves does not: only that is the newcomer's fault."""
    live, routes = situation.releases.get(memory.live or 0), operation.routes
    if routes is None or live is None:
        return routes is not None
    return (routes.rules, routes.policy) != (build_rules(live.spec), build_policy(live.spec.proxy))


def _settle_refusal(situation: Situation, memory: Memory, done: Done, now: Instant) -> Memory:
    """What can never be started or published fails the rollout at once; a start that heals is only slowed down."""
    operation = done.operation
    if isinstance(operation, PublishRoutes) and not _has_news(situation, memory, operation):
        return memory
    if not isinstance(operation, StartReplica | RunBefore | RestartReplica | PublishRoutes):
        return memory
    rollout = memory.rollout
    if rollout is not None and rollout.switched is None and not rollout.failing:
        return replace(memory, rollout=turn_back(rollout, memory, done.text, now))
    if isinstance(operation, StartReplica):
        slot = memory.slots.get(operation.index, Slot())
        slot = replace(slot, exits=slot.exits + 1, last=now, reason=f"could not start: {done.text}")
        return replace(memory, slots={**memory.slots, operation.index: slot})
    return memory
