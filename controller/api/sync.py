"""POST /v1/sync: a forge, or whoever may deploy, says that the repository has something new."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from controller.api.auth import Caller, identify
from controller.api.parts import Parts
from controller.api.problems import Problem
from controller.api.rights import Guarded, judges_itself
from controller.api.shares import Shares
from controller.queries import Row

WRONG_S = 0.5
"""Before a wrong signature is answered: guessing is slow then, and forges do not mind."""
AT_ONCE = 8
"""Signed calls whose bodies are read at the same time: they fill memory before it is known who calls."""
FORGE = Caller(name="webhook", scope="deploy")
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
    reading = Shares("signed calls", limit=AT_ONCE, share=AT_ONCE, reserve=0)
    router = APIRouter(route_class=Guarded, prefix="/v1", tags=["service"])

    @router.post("/sync", status_code=202, summary="Look at the Git repository now", openapi_extra=BODY)
    @judges_itself
    async def sync(request: Request) -> Row:
        by = await find_caller(parts, request, reading)
        if parts.source is None:
            raise Problem(409, "no-git", "this service follows no Git repository; set OTON_GIT_URL and restart it")
        parts.source.ask()
        await run_in_threadpool(parts.orders.note, "sync", "", by, "asked")
        commit = parts.source.state.commit
        return {"accepted": True, "commit": commit.id if commit is not None else None}

    return router


async def find_caller(parts: Parts, request: Request, reading: Shares) -> str:
    """Return who calls: a forge by its signature, anybody else as everywhere. Raises the 401 or 403."""
    if parts.webhook is None or not parts.webhook.is_signed(request.headers):
        who = await identify(request)
        who.need_all("deploy")
        return who.name
    if not await is_signed_well(parts, request, reading):
        LOG.warning("a webhook's signature was refused", client=request.client.host if request.client else "")
        await asyncio.sleep(WRONG_S)
        raise Problem(401, "bad-signature", "the signature does not match the secret in the state directory")
    return "webhook"


async def is_signed_well(parts: Parts, request: Request, reading: Shares) -> bool:
    """Say whether the body has the signature; here alone it is read before it is known who calls."""
    reading.take(FORGE)
    try:
        good: bool = await run_in_threadpool(parts.webhook.verify, request.headers, await request.body())
    finally:
        reading.give_back(FORGE)
    return good
