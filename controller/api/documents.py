"""The API's documentation of itself; like all but the two probes, for known callers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from controller.api.auth import Who
from controller.api.problems import BROWSED
from controller.api.reference import POLICY, render_reference
from controller.api.rights import Guarded, needs

PATH = "/v1/openapi.json"

SCHEME = {"type": "http", "scheme": "bearer", "description": "An AppToken: oton token create. None on the Unix socket."}
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
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

    @router.get(BROWSED, response_class=HTMLResponse)
    @needs("read")
    def docs(request: Request, _: Who) -> HTMLResponse:
        return HTMLResponse(render_reference(with_security(request.app.openapi())), headers=HEADERS)

    return router
