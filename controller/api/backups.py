"""A backup to take away while the service runs, and one to be put in its place by a restart of the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from controller.api.auth import Who
from controller.api.parts import Parts
from controller.api.problems import Problem
from controller.api.rights import Guarded, needs
from controller.queries import Row

PATH = "/v1/restore"
LIMIT_BYTES = 2 * 1024**3
"""Longest archive that is taken in."""
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_TAKEN: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}}
}


def build_router(parts: Parts) -> APIRouter:
    """Return /v1/backup and /v1/restore."""
    router = APIRouter(route_class=Guarded, prefix="/v1", tags=["service"])

    @router.get(
        "/backup",
        summary="Database and state as one file; it holds keys",
        responses=_TAKEN,
        response_class=FileResponse,
    )
    @needs("admin", whole=True)
    def backup(who: Who) -> FileResponse:
        file: Path = parts.orders.act("backup", "", who.name, parts.archive.save)
        return FileResponse(
            file,
            media_type="application/gzip",
            filename="oton-backup.tar.gz",
            background=BackgroundTask(file.unlink, missing_ok=True),
        )

    @router.post("/restore", status_code=202, summary="Restore a backup; the controller restarts", openapi_extra=BODY)
    @needs("admin", whole=True)
    async def restore(request: Request, who: Who) -> JSONResponse:
        file = await run_in_threadpool(parts.archive.new_file)
        try:
            await receive(request, file)
            manifest = await run_in_threadpool(
                parts.orders.act, "restore", "", who.name, lambda: parts.archive.stage(file)
            )
        finally:
            file.unlink(missing_ok=True)
        # Only once this answer is out: the restart ends the process that gives it.
        return JSONResponse(dict(manifest), 202, background=BackgroundTask(parts.archive.restart))

    @router.get("/restore", summary="What was restored last")
    @needs("admin", whole=True)
    def restored(who: Who) -> Row:
        last = parts.archive.last()
        if last is None:
            raise Problem(404, "never-restored", "nothing was ever restored here")
        return dict(last)

    return router


async def receive(request: Request, file: Path) -> None:
    """Write a request's body to *file*. Raises the 413 above the limit."""
    taken = 0
    with file.open("wb") as out:
        async for chunk in request.stream():
            taken += len(chunk)
            if taken > LIMIT_BYTES:
                raise Problem(413, "too-large", f"a backup has at most {LIMIT_BYTES // 1024**3} GiB")
            await run_in_threadpool(out.write, chunk)
