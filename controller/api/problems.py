"""Everything that can go wrong with a request, as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from controller.errors import Broken, ControllerError, KeptElsewhere, Refused, Retry, Stale
from controller.orders import UnknownApp

MEDIA_TYPE = "application/problem+json"
DOCUMENTED: dict[str, Any] = {
    "description": "What went wrong",
    "content": {
        MEDIA_TYPE: {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "detail"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "problems": {"type": "array", "items": {"type": "string"}},
                },
            },
            "example": {
                "type": "/problems/no-such-app",
                "title": "Not Found",
                "status": 404,
                "detail": "shop: no such app",
            },
        }
    },
}
"""How OpenAPI shows every error."""
BROWSED = "/docs"
"""What a browser opens, which asks its user for a password only where it is told to."""
LOG = structlog.get_logger("api")


class Problem(Exception):
    """One answer that says what went wrong; *kind* is a stable word for programs."""

    def __init__(self, status: int, kind: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail, self.more = status, kind, detail, more

    def response(self) -> JSONResponse:
        """Return it as a response."""
        return render_problem(self.status, self.kind, self.detail, self.more)


def render_problem(status: int, kind: str, detail: str, more: dict[str, Any] | None = None) -> JSONResponse:
    """Render a problem+json answer."""
    body = {"type": f"/problems/{kind}", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    headers = {"WWW-Authenticate": 'Bearer realm="oton"'} if status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(body | (more or {}), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def no_such_app(app: str) -> Problem:
    """Say that there is no such app."""
    return Problem(404, "no-such-app", f"{app[:60]}: no such app")


def from_trouble(error: ControllerError) -> Problem:
    """Turn one of our own four kinds of trouble into an answer."""
    match error:
        case UnknownApp():
            return Problem(404, "no-such-app", str(error))
        case KeptElsewhere():
            return Problem(409, "kept-elsewhere", str(error))
        case Refused():
            lines = list(getattr(error, "problems", ())) or str(error).splitlines()
            return Problem(422, "refused", str(error), problems=[str(getattr(one, "text", one)) for one in lines])
        case Retry() | Stale():
            return Problem(503, "not-reachable", str(error))
        case _:
            return Problem(500, "broken", f"internal error: {error}")


def install(app: FastAPI) -> None:
    """Make every error of *app* a problem+json answer."""

    @app.exception_handler(Problem)
    async def on_problem(request: Request, error: Problem) -> JSONResponse:
        answer = error.response()
        if error.status == HTTPStatus.UNAUTHORIZED and request.url.path == BROWSED:
            answer.headers.append("WWW-Authenticate", 'Basic realm="oton: any name, and a token as the password"')
        return answer

    @app.exception_handler(ControllerError)
    async def on_trouble(_: Request, error: ControllerError) -> JSONResponse:
        if isinstance(error, Broken):
            LOG.error("broken", error=str(error), exc_info=error)
        return from_trouble(error).response()

    @app.exception_handler(RequestValidationError)
    async def on_bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        lines = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
        return render_problem(422, "bad-request", "; ".join(lines), {"problems": lines})

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        kind = {404: "no-such-path", 405: "no-such-method"}.get(error.status_code, "refused")
        detail = f"{request.method} {request.url.path[:200]}: {error.detail}"
        answer = render_problem(error.status_code, kind, detail)
        answer.headers.update(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            answer.headers["Allow"] = ", ".join(allowed_methods(request))
        return answer

    @app.exception_handler(ClientDisconnect)
    async def on_gone(_: Request, __: ClientDisconnect) -> JSONResponse:
        return render_problem(400, "bad-request", "the client disconnected before its request was complete")

    @app.exception_handler(Exception)
    async def on_bug(request: Request, error: Exception) -> JSONResponse:
        LOG.error("request failed", path=request.url.path, exc_info=error)
        return render_problem(500, "broken", "internal error; see the service's log for details")


def allowed_methods(request: Request) -> list[str]:
    """Return every method that the request's path knows; the framework itself names those of its first route only."""
    found: dict[str, list[str]] = {}
    for method in ("GET", "POST", "PUT", "DELETE"):
        scope = dict(request.scope) | {"method": method}
        for route in request.app.state.routes:
            if route.matches(scope)[0] is Match.FULL:
                found.setdefault(route.path, []).append(method)
    # What has a path of its own is not one of the names that another path stands for.
    return found.get(request.url.path) or [method for methods in found.values() for method in methods]
