"""The logs of an app's replicas as one stream of JSON lines, across rollouts."""

from __future__ import annotations

import asyncio
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
from controller.api.events import Wakers
from controller.api.masking import mask
from controller.api.parts import Parts
from controller.api.problems import Problem
from controller.api.rights import Guarded, needs
from controller.api.streams import Following, Hose, Threads
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
    router = APIRouter(route_class=Guarded, prefix="/v1/apps", tags=["apps"])

    @router.get(
        "/{app}/logs",
        summary="Logs of all replicas, one JSON object a line",
        responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}},
        response_class=StreamingResponse,
    )
    @needs("read")
    async def get_logs(
        app: AppName,
        who: Who,
        request: Request,
        follow: bool = False,
        lines: Lines = 100,
        since: Since = None,
        release: Annotated[int | None, Query(ge=1)] = None,
    ) -> StreamingResponse:
        find_app(parts, app)
        found = await run_in_threadpool(find_replicas, parts, app, release)
        if not found and not follow:
            raise Problem(404, "no-logs", no_container_text(app, release))
        if not follow:
            return StreamingResponse(past_logs(parts, found, lines, since), media_type=MEDIA_TYPE)
        tail = Tail(parts, Hose(threads, who), app, release)
        try:
            await tail.add(found, lines, since)
        except Exception:
            tail.close()
            raise
        return Following(tail.lines(request.app.state.wakers), tail.close, MEDIA_TYPE)

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


def render_log(parts: Parts, replica: Replica, line: Any) -> bytes:
    """Render one line, with what is secret in it as `***`."""
    shown = {
        "time": render_time(line.wall) if line.wall else None,
        "replica": replica.name,
        "release": replica.release,
        "text": mask(parts, replica.app, line.text),
    }
    return json.dumps(shown, ensure_ascii=False).encode() + b"\n"


def past_logs(parts: Parts, replicas: Iterable[Replica], lines: int, since: float | None) -> Iterator[bytes]:
    """Yield the last lines of all *replicas*, merged by time."""

    def read(replica: Replica) -> Iterator[tuple[float, str, bytes]]:
        for line in open_log(parts, replica, lines, since, follow=False):
            yield line.wall, replica.name, render_log(parts, replica, line)

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


class Tail:
    """The lines of an app's containers as they are written, of those that come later too."""

    def __init__(self, parts: Parts, hose: Hose[bytes], app: str, release: int | None) -> None:
        self._parts, self._app, self._release = parts, app, release
        self._hose = hose
        self._known: set[str] = set()

    async def add(self, replicas: Iterable[Replica], lines: int | None = None, since: float | None = None) -> None:
        """Follow those of *replicas* that are not followed yet. Raises the 503 where no thread is free."""
        for replica in [one for one in replicas if one.id not in self._known]:
            self._known.add(replica.id)
            log = await run_in_threadpool(partial(open_log, self._parts, replica, lines, since, follow=True))
            close = getattr(log, "close", lambda: None)
            try:
                self._hose.add(f"logs {replica.name}", log, close, partial(render_log, self._parts, replica))
            except Problem:
                close()
                raise

    async def lines(self, wakers: Wakers) -> AsyncIterator[bytes]:
        """Yield lines until the client goes or the service stops."""
        while not wakers.closing:
            item = await self._hose.next(LOOK_S)
            while item is not None:
                yield item
                item = await self._hose.next(0)
            try:
                await self.add(seen_replicas(self._parts, self._app, self._release))
            except (Problem, ControllerError):
                return
            if self._hose.open == 0:
                # With nothing to read the hose answers at once: without a pause no other request would be served.
                await asyncio.sleep(LOOK_S)

    def close(self) -> None:
        """End all of it."""
        self._hose.close()


def seen_replicas(parts: Parts, app: str, release: int | None) -> list[Replica]:
    """Return the containers of the last pass: looking costs nothing, so that following can do it often."""
    seen = parts.model.seen(app)
    replicas = seen.situation.world.replicas if seen is not None else ()
    return [one for one in replicas if one.kind in KINDS and release in (None, one.release)]
