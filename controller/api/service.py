"""The service itself: alive, ready, version, doctor, the table, and its metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from controller.api.auth import Who, only_seen
from controller.api.doctor import examine
from controller.api.metrics import CONTENT_TYPE, render_metrics
from controller.api.parts import Parts
from controller.api.problems import Problem, render_problem
from controller.api.rights import Guarded, needs, needs_nothing
from controller.errors import ControllerError
from controller.queries import BadTarget, Row, explain_url, render_routes

API = 1
"""Version of the API's shapes; a client that knows no other asks before it guesses."""
SHOWN_METRICS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
READY_CACHE_S = 1.0
"""/readyz is public: however often it is asked, the engine and the database are asked once a second."""


def build_router(parts: Parts) -> APIRouter:
    """Return the routes that concern no single app."""
    router = APIRouter(route_class=Guarded, tags=["service"])
    add_public(router, parts)
    add_known(router, parts)
    return router


def add_public(router: APIRouter, parts: Parts) -> None:
    """Add what anybody may ask."""
    ready = Cached(lambda: find_faults(parts), READY_CACHE_S)

    @router.get("/healthz", summary="Alive")
    @needs_nothing
    async def healthz() -> Row:
        return {"status": "ok"}

    @router.get("/readyz", summary="Engine reachable, database writable, workers current")
    @needs_nothing
    async def readyz() -> Response:
        faults = await ready.value()
        if faults:
            return render_problem(503, "not-ready", "; ".join(faults.values()), {"faults": sorted(faults)})
        return JSONResponse({"status": "ready"})


def add_known(router: APIRouter, parts: Parts) -> None:
    """Add what a known caller may ask."""

    @router.get("/v1/version", summary="Version of the service and of its API")
    @needs("read")
    async def version(_: Who) -> Row:
        return {"version": parts.version, "api": API, "instance": parts.instance}

    @router.get("/v1/routes", summary="The table")
    @needs("read")
    def routes(who: Who) -> list[Row]:
        fixed = (routes for app, routes in sorted(parts.publisher.table().apps.items()) if ":" in app)
        rows = [row for routes in fixed for row in render_routes(routes)]
        return only_seen(who, [*parts.model.routes(), *rows])

    @router.get("/v1/routes/explain", summary="Which rule, release and replica a URL would get, and why")
    @needs("read")
    def explain(who: Who, url: Annotated[str, Query(min_length=1, max_length=4096)]) -> Row:
        try:
            row = explain_url(url, parts.publisher.table().apps)
        except (BadTarget, ValueError) as error:
            raise Problem(422, "bad-url", f"the proxy would answer 400: {error}") from error
        if not who.sees(row.get("app")):
            raise Problem(403, "not-your-app", "this token is not for that URL's app")
        return row

    @router.get("/v1/doctor", summary="What is wrong on this machine, and how to fix it")
    @needs("admin", whole=True)
    def doctor(who: Who) -> list[Row]:
        return [render_check(one) for one in examine(parts)]

    @router.get("/metrics", summary="Prometheus", response_class=Response, responses=SHOWN_METRICS)
    @needs("read")
    def metrics(who: Who) -> Response:
        return Response(render_metrics(parts, who), media_type=CONTENT_TYPE)


class Cached:
    """A value that is worked out at most once in a span of time, and by one thread however many wait for it."""

    def __init__(self, work: Callable[[], dict[str, str]], span_s: float) -> None:
        self._work, self._span_s = work, span_s
        self._until, self._value = 0.0, dict[str, str]()
        self._asking: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}

    async def value(self) -> dict[str, str]:
        """Return the value, at most *span_s* old."""
        if time.monotonic() >= self._until:
            loop = asyncio.get_running_loop()
            asking = self._asking.get(loop)
            if asking is None or asking.done():
                asking = self._asking[loop] = loop.create_task(self._ask())
            await asyncio.shield(asking)
        return self._value

    async def _ask(self) -> None:
        self._value = await run_in_threadpool(self._work)
        self._until = time.monotonic() + self._span_s


def find_faults(parts: Parts) -> dict[str, str]:
    """Return what keeps the service from being ready, by name."""
    faults = {} if parts.engine.reachable() else {"engine": "the engine is not reachable"}
    for name, check in parts.checks.items():
        try:
            text = check()
        except ControllerError as error:
            text = str(error)
        if text:
            faults[name] = text
    return faults


def render_check(check: Any) -> Row:
    """Render one line of the doctor."""
    return {"check": check.what, "state": check.state, "text": check.text, "mend": check.mend}
