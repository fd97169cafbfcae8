"""Carrying operations out, one after the other: decides nothing, trusts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import assert_never

from controller.errors import Refused, Retry, Stale
from controller.loop.failpoints import pass_point
from controller.loop.handover import hand_again, hand_out
from controller.loop.masking import mask_done
from controller.loop.observe import Ports
from controller.plan.operations import (
    KeepLogs,
    KillReplica,
    Operation,
    PublishRoutes,
    RemoveReplica,
    ResolveImage,
    RestartReplica,
    RunBefore,
    StartReplica,
    StopReplica,
)
from controller.plan.situation import Done, Release, Situation
from controller.ports import ContainerPlan


def execute(situation: Situation, operations: Sequence[Operation], ports: Ports) -> tuple[Done, ...]:
    """Do *operations* in order; the first that fails ends the pass, the rest are recorded as not tried."""
    done: list[Done] = []
    for operation in operations:
        if done and done[-1].state != "done":
            done.append(Done(operation, "not_tried"))
        else:
            hide = partial(ports.secrets.mask, situation.app)
            done.append(mask_done(_try(situation, operation, ports), hide))
    _drop_files(situation, done, ports)
    return tuple(done)


def _try(situation: Situation, operation: Operation, ports: Ports) -> Done:
    kind = type(operation).__name__
    try:
        pass_point(f"before:{kind}")
        lines = _do(situation, operation, ports)
        pass_point(f"after:{kind}")
    except (Retry, Stale) as error:
        return Done(operation, "failed", str(error))
    except Refused as error:
        return Done(operation, "failed", str(error), wait=False)
    return Done(operation, "done", lines=lines)


def _do(situation: Situation, operation: Operation, ports: Ports) -> tuple[str, ...]:
    app, engine = situation.app, ports.engine
    match operation:
        case ResolveImage():
            engine.resolve(operation.key, operation.ref, operation.policy)
        case RunBefore():
            engine.start(_plan_before(situation, operation, ports))
        case StartReplica():
            engine.start(_plan_replica(situation, operation, ports))
        case RestartReplica():
            _lay_files_again(situation, operation.replica, ports)
            engine.restart(operation.replica)
        case PublishRoutes():
            ports.publisher.publish(app, operation.routes)
        case StopReplica():
            engine.signal_stop(operation.replica)
        case KillReplica():
            engine.kill(operation.replica)
        case RemoveReplica():
            engine.remove(operation.replica)
        case KeepLogs():
            return _read_tail(operation, ports)
        case _:
            assert_never(operation)
    return ()


def _read_tail(operation: KeepLogs, ports: Ports) -> tuple[str, ...]:
    """Logs that cannot be read must not keep a failed release from being undone."""
    try:
        return ports.engine.tail(operation.replica)
    except (Retry, Stale, Refused) as error:
        return (f"(its log could not be read: {error})",)


def _plan_replica(situation: Situation, operation: StartReplica, ports: Ports) -> ContainerPlan:
    release = _release(situation, operation.release)
    handed = hand_out(situation.app, release, ports.secrets, ports.files)
    return ContainerPlan(
        app=situation.app,
        release=release,
        index=operation.index,
        secrets=handed.environment,
        files=handed.files,
    )


def _plan_before(situation: Situation, operation: RunBefore, ports: Ports) -> ContainerPlan:
    release = _release(situation, operation.release)
    if release.spec.before is None:
        raise Refused(f"release {release.number} has no `before` command")
    handed = hand_out(situation.app, release, ports.secrets, ports.files)
    return ContainerPlan(
        app=situation.app,
        release=release,
        index=0,
        kind="before",
        command=release.spec.before.command,
        secrets=handed.environment,
        files=handed.files,
    )


def _release(situation: Situation, number: int) -> Release:
    found = situation.releases.get(number)
    if found is None:
        raise Stale(f"release {number} is not in the history")
    return found


def _lay_files_again(situation: Situation, replica: str, ports: Ports) -> None:
    digest = _digest_of(situation, replica)
    release = next((r for r in situation.releases.values() if digest and r.container_digest == digest), None)
    if release is not None:
        hand_again(situation.app, release, ports.secrets, ports.files)


def _drop_files(situation: Situation, done: Sequence[Done], ports: Ports) -> None:
    """Secret files go with the last container that was made with them."""
    removed, needed = set(), set()
    for one in done:
        match one.operation:
            case RemoveReplica() if one.state == "done":
                removed.add(one.operation.replica)
            case StartReplica() | RunBefore():
                release = situation.releases.get(one.operation.release)
                needed |= {release.container_digest} if release is not None else set()
    needed |= {one.digest for one in situation.world.replicas if one.id not in removed}
    for digest in {_digest_of(situation, replica) for replica in removed} - needed - {""}:
        ports.files.drop(situation.app, digest)


def _digest_of(situation: Situation, replica: str) -> str:
    return next((one.digest for one in situation.world.replicas if one.id == replica), "")
