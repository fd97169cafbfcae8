"""The API's documentation of itself; like all but the two probes, for known callers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from controller.api.auth import Who

PATH = "/v1/openapi.json"


def build_router() -> APIRouter:
    """Return the OpenAPI document and its page."""
    router = APIRouter(include_in_schema=False)

    @router.get(PATH)
    def openapi(request: Request, _: Who) -> dict[str, Any]:
        document: dict[str, Any] = request.app.openapi()
        return document

    @router.get("/docs", response_class=HTMLResponse)
    async def docs(_: Who) -> HTMLResponse:
        return get_swagger_ui_html(openapi_url=PATH, title="Oton Pilot")

    return router
