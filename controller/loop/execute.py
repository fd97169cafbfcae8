"""Carrying operations out, one after the other: decides nothing, trusts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from controller.errors import Refused, Retry, Stale
from controller.loop.failpoints import pass_point
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
            done.append(_try(situation, operation, ports))
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
    return ContainerPlan(
        app=situation.app, release=release, index=operation.index, secrets=_secrets(situation, release, ports)
    )


def _plan_before(situation: Situation, operation: RunBefore, ports: Ports) -> ContainerPlan:
    release = _release(situation, operation.release)
    if release.spec.before is None:
        raise Refused(f"release {release.number} has no `before` command")
    return ContainerPlan(
        app=situation.app,
        release=release,
        index=0,
        kind="before",
        command=release.spec.before.command,
        secrets=_secrets(situation, release, ports),
    )


def _release(situation: Situation, number: int) -> Release:
    found = situation.releases.get(number)
    if found is None:
        raise Stale(f"release {number} is not in the history")
    return found


def _secrets(situation: Situation, release: Release, ports: Ports) -> dict[str, str]:
    names = [s.name for s in release.spec.secrets]
    if not names:
        return {}
    values = dict(ports.secrets.values(situation.app, names))
    lacking = [name for name in names if name not in values]
    if lacking:
        setting = f"oton secret set {situation.app} {lacking[0]}"
        raise Refused(f"no value for secret {', '.join(lacking)}; set it with: {setting}")
    return values
