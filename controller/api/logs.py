"""The logs of an app's replicas as one stream of JSON lines, across rollouts."""

from __future__ import annotations

import heapq
import json
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from controller.api.apps import AppName, find_app
from controller.api.auth import Who
from controller.api.parts import Parts
from controller.api.problems import Problem
from controller.api.streams import Hose, Threads
from controller.clock import render_time
from controller.errors import ControllerError, Refused, Retry
from controller.world.model import Replica

MEDIA_TYPE = "application/x-ndjson"
LOOK_S = 0.5
"""Between two looks for replicas that came while following."""
KINDS = ("replica", "before")
Lines = Annotated[int, Query(ge=0, le=100_000, description="How many past lines")]
Since = Annotated[float | None, Query(ge=0, description="Only lines from this Unix time on")]


def build_router(parts: Parts, threads: Threads) -> APIRouter:
    """Return GET /v1/apps/{app}/logs."""
    router = APIRouter(prefix="/v1/apps", tags=["apps"])

    @router.get(
        "/{app}/logs",
        summary="Logs of all replicas, one JSON object a line",
        responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}},
        response_class=StreamingResponse,
    )
    async def get_logs(
        app: AppName,
        who: Who,
        request: Request,
        follow: bool = False,
        lines: Lines = 100,
        since: Since = None,
        release: Annotated[int | None, Query(ge=1)] = None,
    ) -> StreamingResponse:
        who.need("read", app)
        find_app(parts, app)
        found = await run_in_threadpool(find_replicas, parts, app, release)
        if not found and not follow:
            raise Problem(404, "no-logs", no_container_text(app, release))
        wakers = request.app.state.wakers
        body: Any = (
            follow_logs(parts, threads, wakers, app, found, lines, since, release)
            if follow
            else past_logs(parts, found, lines, since)
        )
        return StreamingResponse(body, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})

    return router


def no_container_text(app: str, release: int | None) -> str:
    """Say that there is nothing to read from."""
    if release is None:
        return f"{app}: no container is there; why the last ones ended: oton history {app}"
    return f"{app}: no container of release {release} is there any more; its last lines: oton history {app} -o json"


def find_replicas(parts: Parts, app: str, release: int | None) -> list[Replica]:
    """Return the app's containers that have logs, as the engine has them now."""
    replicas = parts.engine.observe(app)
    return [one for one in replicas if one.kind in KINDS and release in (None, one.release)]


def render_log(replica: Replica, line: Any) -> bytes:
    """Render one line."""
    shown = {
        "time": render_time(line.wall) if line.wall else None,
        "replica": replica.name,
        "release": replica.release,
        "text": line.text,
    }
    return json.dumps(shown, ensure_ascii=False).encode() + b"\n"


def past_logs(parts: Parts, replicas: Iterable[Replica], lines: int, since: float | None) -> Iterator[bytes]:
    """Yield the last lines of all *replicas*, merged by time."""

    def read(replica: Replica) -> Iterator[tuple[float, str, bytes]]:
        for line in open_log(parts, replica, lines, since, follow=False):
            yield line.wall, replica.name, render_log(replica, line)

    merged = heapq.merge(*(read(one) for one in replicas), key=lambda entry: entry[:2])
    return (text for _, _, text in deque(merged, maxlen=lines))


def open_log(parts: Parts, replica: Replica, lines: int | None, since: float | None, *, follow: bool) -> Any:
    """Open one replica's log; an empty one where it has gone meanwhile."""
    try:
        return parts.engine.logs(replica.id, follow=follow, tail=lines, since=since)
    except Retry:
        raise
    except (Refused, ControllerError):
        return ()


async def follow_logs(
    parts: Parts,
    threads: Threads,
    wakers: Any,
    app: str,
    found: list[Replica],
    lines: int,
    since: float | None,
    release: int | None,
) -> AsyncIterator[bytes]:
    """Yield lines as they are written, of new replicas too, until the client goes or the service stops."""
    hose: Hose[bytes] = Hose(threads)
    known: set[str] = set()
    try:
        while not wakers.closing:
            for replica in (one for one in found if one.id not in known):
                first = not known
                known.add(replica.id)
                tail = lines if first or len(known) <= len(found) else None
                log = await run_in_threadpool(partial(open_log, parts, replica, tail, since, follow=True))
                hose.add(f"logs {replica.name}", log, getattr(log, "close", lambda: None), partial(render_log, replica))
            item = await hose.next(LOOK_S)
            while item is not None:
                yield item
                item = await hose.next(0)
            found = seen_replicas(parts, app, release)
    finally:
        hose.close()


def seen_replicas(parts: Parts, app: str, release: int | None) -> list[Replica]:
    """Return the containers of the last pass: looking costs nothing, so that following can do it often."""
    seen = parts.model.seen(app)
    replicas = seen.situation.world.replicas if seen is not None else ()
    return [one for one in replicas if one.kind in KINDS and release in (None, one.release)]
