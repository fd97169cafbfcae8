"""A plan in words: one line per operation; the same in `oton diff`, in the history and in tests."""

from __future__ import annotations

from typing import assert_never

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
from controller.routing.table import AppRoutes


def render_operation(app: str, operation: Operation) -> str:
    """Render one operation: verb, object, reason."""
    verb, what = _name(app, operation)
    return f"{verb:<7} {what:<20} {operation.because}".rstrip()


def _name(app: str, operation: Operation) -> tuple[str, str]:
    match operation:
        case ResolveImage():
            return "image", operation.ref
        case RunBefore():
            return "before", f"{app}-r{operation.release}"
        case StartReplica():
            return "start", f"{app}-r{operation.release}-{operation.index}"
        case RestartReplica():
            return "restart", operation.name
        case PublishRoutes():
            return "publish", render_routes(operation.routes)
        case StopReplica():
            return "stop", operation.name
        case KillReplica():
            return "kill", operation.name
        case RemoveReplica():
            return "remove", operation.name
        case KeepLogs():
            return "logs", operation.name
        case _:
            assert_never(operation)


def render_routes(routes: AppRoutes | None) -> str:
    """Render an entry of the table in one line: `serve r2: 2 ready; r1: 1 draining`."""
    if routes is None:
        return "nothing"
    parts: dict[tuple[int, str], int] = {}
    for upstream in routes.upstreams:
        state = "preview" if upstream.group == "preview" else upstream.state
        parts[upstream.release, state] = parts.get((upstream.release, state), 0) + 1
    words = [f"r{release}: {count} {state}" for (release, state), count in sorted(parts.items(), reverse=True)]
    return f"{routes.mode} {', '.join(words) or 'nobody'}"
