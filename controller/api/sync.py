"""POST /v1/sync: a forge, or whoever may deploy, says that the repository has something new."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from controller.api.auth import identify
from controller.api.parts import Parts
from controller.api.problems import Problem
from controller.api.rights import Guarded, judges_itself
from controller.queries import Row

WRONG_S = 0.5
"""Before a wrong signature is answered: guessing is slow then, and forges do not mind."""
LOG = structlog.get_logger("api")
BODY: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "description": "Whatever the forge sends; only its signature counts.",
        "content": {"application/json": {"schema": {}}},
    }
}


def build_router(parts: Parts) -> APIRouter:
    """Return the webhook's route."""
    router = APIRouter(route_class=Guarded, prefix="/v1", tags=["service"])

    @router.post("/sync", status_code=202, summary="Look at the Git repository now", openapi_extra=BODY)
    @judges_itself
    async def sync(request: Request) -> Row:
        by = await find_caller(parts, request)
        if parts.source is None:
            raise Problem(409, "no-git", "this service follows no Git repository; set OTON_GIT_URL and restart it")
        parts.source.ask()
        await run_in_threadpool(parts.orders.note, "sync", "", by, "asked")
        commit = parts.source.state.commit
        return {"accepted": True, "commit": commit.id if commit is not None else None}

    return router


async def find_caller(parts: Parts, request: Request) -> str:
    """Return who calls: a forge by its signature, anybody else as everywhere. Raises the 401 or 403."""
    if parts.webhook is None or not parts.webhook.is_signed(request.headers):
        who = await identify(request)
        who.need_all("deploy")
        return who.name
    # The body is what is signed: here alone it has to be read before it is known who calls.
    if not await run_in_threadpool(parts.webhook.verify, request.headers, await request.body()):
        LOG.warning("a webhook's signature was refused", client=request.client.host if request.client else "")
        await asyncio.sleep(WRONG_S)
        raise Problem(401, "bad-signature", "the signature does not match the secret in the state directory")
    return "webhook"
