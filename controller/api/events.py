"""The event log as Server-Sent Events: resumable by `Last-Event-ID`, nothing skipped and nothing doubled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from controller.api.auth import Caller, Who
from controller.api.rights import Guarded, needs
from controller.api.shares import Shares
from controller.api.streams import Following
from controller.clock import render_time
from controller.queries import Row

BATCH = 200
"""Events read at once."""
SILENCE_S = 15.0
"""After so long without an event a comment line goes out, so that a dead connection shows."""
FOLLOWERS = 100
"""Streams that may be open at once; each costs a task and a look at the store per event."""
SHARE, RESERVE = 30, 20
"""Of those for one token, and for the socket alone."""

EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["id", "time", "app", "kind", "level", "text", "data"],
    "properties": {
        "id": {"type": "integer"},
        "time": {"type": "string"},
        "app": {"type": ["string", "null"]},
        "kind": {"type": "string"},
        "level": {"type": "string"},
        "text": {"type": "string"},
        "data": {"type": "object"},
    },
}
SHOWN: dict[str, Any] = {
    "application/json": {"schema": {"type": "array", "items": EVENT}},
    "text/event-stream": {
        "itemSchema": {
            "type": "object",
            "required": ["id", "event", "data"],
            "properties": {
                "id": {"type": "string"},
                "event": {"type": "string"},
                "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": EVENT},
            },
        }
    },
}
"""How OpenAPI shows the past as a list, and what follows as a stream, event by event."""


class Log(Protocol):
    """The event log, as far as the API reads it."""

    def events(self, after_id: int = 0, app: str | None = None, limit: int = BATCH) -> Sequence[Any]: ...
    def recent_events(self, apps: Collection[str] | None = None, limit: int = 100) -> Sequence[Any]: ...
    def on_event(self, listener: Callable[[Any], None]) -> Callable[[], None]: ...
    def last_event_id(self) -> int: ...


class Wakers:
    """Wakes every open stream when an event is stored, from whatever thread stored it."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Event, tuple[asyncio.AbstractEventLoop, Caller]] = {}
        self._shares = Shares("streams of events", limit=FOLLOWERS, share=SHARE, reserve=RESERVE)
        self.closing = False

    def __len__(self) -> int:
        return len(self._open)

    def join(self, who: Caller) -> asyncio.Event:
        """Return an event that is set at each news; give it back with `leave`. Raises the 503 where all are taken."""
        self._shares.take(who)
        waker = asyncio.Event()
        self._open[waker] = (asyncio.get_running_loop(), who)
        return waker

    def leave(self, waker: asyncio.Event) -> None:
        """Forget a waker."""
        if waker in self._open:
            self._shares.give_back(self._open.pop(waker)[1])

    def wake(self, _: Any = None) -> None:
        """Wake all streams; returns at once."""
        for waker, (loop, _) in list(self._open.items()):
            with suppress(RuntimeError):  # the loop has closed under a stopping server
                loop.call_soon_threadsafe(waker.set)

    def close(self) -> None:
        """End all streams."""
        self.closing = True
        self.wake()


def build_router(log: Log, wakers: Wakers) -> APIRouter:
    """Return GET /v1/events."""
    router = APIRouter(route_class=Guarded, prefix="/v1", tags=["events"])
    log.on_event(wakers.wake)

    @router.get(
        "/events",
        summary="What the controller saw, decided and did",
        responses={200: {"content": SHOWN}},
        response_model=None,
    )
    @needs("read")
    async def get_events(
        who: Who,
        request: Request,
        app: Annotated[str | None, Query(max_length=40)] = None,
        follow: bool = True,
        limit: Annotated[int, Query(ge=0, le=1000, description="How many past events to begin with")] = 0,
        last_event_id: Annotated[int | None, Header(ge=0, le=2**62)] = None,
    ) -> Response | list[Row]:
        if not follow:
            apps = [app] if app is not None else who.apps
            return [render_event(one) for one in await run_in_threadpool(log.recent_events, apps, limit or 100)]
        after = (
            last_event_id if last_event_id is not None else await run_in_threadpool(start_after, log, who, app, limit)
        )
        waker = wakers.join(who)
        stream = follow_events(log, wakers, waker, who, app, after)
        return Following(stream, lambda: wakers.leave(waker), "text/event-stream")

    return router


def start_after(log: Log, who: Caller, app: str | None, limit: int) -> int:
    """Return the event id after which a new stream begins, so that it shows the last *limit* events first."""
    last = log.last_event_id()
    if limit == 0:
        return last
    past = log.recent_events([app] if app is not None else who.apps, limit)
    return int(past[0].id) - 1 if past else last


async def follow_events(
    log: Log, wakers: Wakers, waker: asyncio.Event, who: Caller, app: str | None, after: int
) -> AsyncIterator[str]:
    """Yield events after *after* as they come, until the client goes or the service stops."""
    yield ": oton\n\n"
    while not wakers.closing:
        waker.clear()
        batch = await run_in_threadpool(log.events, after, app, BATCH)
        for event in batch:
            after = event.id
            if who.sees(event.app):
                yield render_sse(event)
        if len(batch) < BATCH and not await heard(waker):
            yield ": still here\n\n"


async def heard(waker: asyncio.Event) -> bool:
    """Wait for news; False after a long silence."""
    try:
        await asyncio.wait_for(waker.wait(), SILENCE_S)
    except TimeoutError:
        return False
    return True


def render_event(event: Any) -> Row:
    """Render one event."""
    return {
        "id": event.id,
        "time": render_time(event.at),
        "app": event.app or None,
        "kind": event.kind,
        "level": event.level,
        "text": event.text,
        "data": dict(event.data),
    }


def render_sse(event: Any) -> str:
    """Render one event as a Server-Sent Event."""
    return f"id: {event.id}\nevent: {event.kind}\ndata: {json.dumps(render_event(event))}\n\n"
