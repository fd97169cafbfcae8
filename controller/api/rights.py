"""
What right each route asks for, judged before anything of a request but its head is looked at.

The order is the same everywhere: 401, 403, then the body with 413 and 422, then 404. A route that names no right
cannot be made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from controller.api.auth import Caller, Scope, identify
from controller.api.problems import Problem


@dataclass(frozen=True, slots=True)
class Right:
    """The least that a caller must have; *whole*: and not be limited to some apps."""

    scope: Scope
    whole: bool = False

    def check(self, who: Caller, request: Request) -> None:
        """Raise the 403 where *who* has not this right on the app that the request names."""
        if self.whole:
            who.need_all(self.scope)
        else:
            who.need(self.scope, request.path_params.get("app") or request.query_params.get("app"))


PUBLIC = "public"
"""Needs no token."""
OWN = "own"
"""Says by itself who may: a forge signs its body."""


def needs[F: Callable[..., Any]](scope: Scope, *, whole: bool = False) -> Callable[[F], F]:
    """Mark an endpoint with the right that it needs."""
    return _mark(Right(scope, whole))


def needs_nothing[F: Callable[..., Any]](endpoint: F) -> F:
    """Mark an endpoint that anybody may call."""
    return _mark(PUBLIC)(endpoint)


def judges_itself[F: Callable[..., Any]](endpoint: F) -> F:
    """Mark an endpoint that finds out by itself who calls."""
    return _mark(OWN)(endpoint)


def _mark[F: Callable[..., Any]](right: Right | str) -> Callable[[F], F]:
    def mark(endpoint: F) -> F:
        endpoint.right = right  # type: ignore[attr-defined]
        return endpoint

    return mark


class Guarded(APIRoute):
    """A route that judges its caller before it looks at anything but the head."""

    @property
    def right(self) -> Right | str:
        """The right that its endpoint was marked with."""
        found: Right | str = self.endpoint.right  # type: ignore[attr-defined]
        return found

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with the judgement in front."""
        handle, right, has_body = super().get_route_handler(), self.right, self.body_field is not None

        async def guarded(request: Request) -> Response:
            if isinstance(right, Right):
                right.check(await identify(request), request)
            refuse_long(request)
            if has_body:
                await read_json(request)
            return await handle(request)

        return guarded


def refuse_long(request: Request) -> None:
    """Raise the 413 for a body that says by itself that it is too long."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > request.scope["state"].get("body_limit", int(declared)):
        raise Problem(413, "too-large", "the body is too large")


async def read_json(request: Request) -> None:
    """Read the body ahead of the framework, which would call each trouble with it a 400."""
    if not await request.body():
        return
    try:
        await request.json()
    except json.JSONDecodeError:
        return  # the framework says where
    except RecursionError:
        raise Problem(422, "bad-request", "the body is nested too deeply") from None
    except ValueError as error:
        raise Problem(422, "bad-request", f"the body cannot be read: {str(error)[:200]}") from None
