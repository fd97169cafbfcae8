"""The API's documentation of itself; like all but the two probes, for known callers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from controller.api.auth import Who
from controller.api.rights import Guarded, needs

PATH = "/v1/openapi.json"

SCHEME = {"type": "http", "scheme": "bearer", "description": "An AppToken: oton token create. None on the Unix socket."}
OPEN = ("/healthz", "/readyz")
"""What needs no token."""


def with_security(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with how a client says who it is."""
    paths = document["paths"] | {
        path: {method: {**operation, "security": []} for method, operation in document["paths"][path].items()}
        for path in OPEN
    }
    components = {**document.get("components", {}), "securitySchemes": {"token": SCHEME}}
    return {**document, "paths": paths, "components": components, "security": [{"token": []}]}


def build_router() -> APIRouter:
    """Return the OpenAPI document and its page."""
    router = APIRouter(route_class=Guarded, include_in_schema=False)

    @router.get(PATH)
    @needs("read")
    def openapi(request: Request, _: Who) -> dict[str, Any]:
        return with_security(request.app.openapi())

    @router.get("/docs", response_class=HTMLResponse)
    @needs("read")
    async def docs(_: Who) -> HTMLResponse:
        return get_swagger_ui_html(openapi_url=PATH, title="Oton Pilot")

    return router
