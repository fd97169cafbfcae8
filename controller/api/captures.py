"""An inspected app's requests as a HAR file, recorded while it is downloaded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from controller.api.apps import AppName, find_app
from controller.api.auth import Who
from controller.api.masking import mask
from controller.api.parts import Parts
from controller.api.problems import Problem
from controller.api.rights import Guarded, needs
from controller.api.streams import Following, Hose, Threads
from controller.errors import Refused
from controller.inspection import Capture
from controller.inspection.har import render_har

MEDIA_TYPE = "application/json"
LONGEST_S = 3600.0
_LOOK_S = 0.5


def build_router(parts: Parts, threads: Threads) -> APIRouter:
    """Return GET /v1/apps/{app}/capture."""
    router = APIRouter(route_class=Guarded, prefix="/v1/apps", tags=["apps"])

    @router.get(
        "/{app}/capture",
        summary="Record an inspected app's requests as HAR, credentials masked; ends by itself",
        responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}},
        response_class=Following,
    )
    @needs("admin")
    async def get_capture(
        app: AppName,
        who: Who,
        seconds: Annotated[float, Query(alias="for", gt=0, le=LONGEST_S, description="Seconds")] = 60.0,
        wanted: Annotated[str, Query(alias="filter", max_length=1000, description="mitmproxy's filter")] = "",
    ) -> Following:
        find_app(parts, app)
        capture = await run_in_threadpool(begin, parts, app, who.name, seconds, wanted)
        try:
            document = render_har(capture, parts.version, partial(mask, parts, app))
            hose: Hose[bytes] = Hose(threads, who)
            hose.add(f"capture-{app}", document, capture.close, bytes)
        except Exception:
            capture.close()
            raise
        return Following(pieces(hose), hose.close, MEDIA_TYPE)

    return router


def begin(parts: Parts, app: str, by: str, seconds: float, wanted: str) -> Capture:
    """Begin to record. Raises the 409 that says what to do first."""
    try:
        capture: Capture = parts.orders.act("capture", app, by, lambda: parts.inspection.capture(app, seconds, wanted))
    except Refused as error:
        raise Problem(409, "not-recorded", str(error)) from error
    return capture


async def pieces(hose: Hose[bytes]) -> AsyncIterator[bytes]:
    """Yield the document to its end."""
    while True:
        piece = await hose.next(_LOOK_S)
        if piece is not None:
            yield piece
        elif hose.open == 0:
            return
