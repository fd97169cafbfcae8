"""
Who is calling and what that caller may do.

Whoever may open the socket is admin and known by the kernel's word for its user, unless it shows a token; on
TCP a bearer AppToken says. A token's secret is never logged, and wrong ones are answered ever more slowly.
"""

from __future__ import annotations

import asyncio
import base64
import pwd
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import structlog
from fastapi import Depends
from starlette.requests import HTTPConnection

from controller.api.admission import Admission, Admissions, Tokens
from controller.api.problems import BROWSED, Problem

Scope = Literal["read", "deploy", "admin"]
RANK: dict[str, int] = {"read": 0, "deploy": 1, "admin": 2}
PEER = "uid:"
"""What our protocol class puts in front of a socket peer's uid; no network address looks like it."""
PINNED = "token:"
"""Likewise for a connection that said at its beginning which token all its requests have."""
ENDED = "this token is not valid, or no longer"
LOG = structlog.get_logger("api")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One who asks, and what it may touch; *apps* None: all."""

    name: str
    scope: Scope
    apps: frozenset[str] | None = None
    hosts: tuple[str, ...] = ()
    token: int | None = None
    """The number of the token that it showed; None: it came by the socket."""

    @property
    def is_limited(self) -> bool:
        """Say whether it may only bring into force what is within bounds; only an admin of all apps is not."""
        return not self.may("admin") or self.apps is not None

    def may(self, scope: Scope) -> bool:
        """Say whether its scope is *scope* or above."""
        return RANK[self.scope] >= RANK[scope]

    def sees(self, app: str | None) -> bool:
        """Say whether the app is among its own."""
        return self.apps is None or app in self.apps

    def need(self, scope: Scope, app: str | None = None) -> None:
        """Raise the 403 unless it has *scope* and, where one is named, the app."""
        if app is not None and not self.sees(app):
            # A foreign and an unknown app read the same, so that a token cannot find out which apps exist.
            raise Problem(403, "not-your-app", "this token is not for this app")
        if not self.may(scope):
            raise Problem(403, "scope", f"this needs scope {scope}; this token has {self.scope}")

    def need_all(self, scope: Scope) -> None:
        """Raise the 403 unless it has *scope* and is not limited to some apps."""
        self.need(scope)
        if self.apps is not None:
            raise Problem(403, "not-your-app", "this needs a token that is not limited to some apps")


class Gate:
    """Checks tokens: the right ones at once, wrong ones the more slowly the more of them a client shows."""

    FORGET_S = 60.0
    LONGEST_S = 2.0
    CLIENTS = 1000

    def __init__(self, tokens: Tokens) -> None:
        self._verify = tokens.verify
        self.admissions = Admissions(tokens)
        self._failures: dict[str, tuple[int, float]] = {}

    async def check(self, client: str, token: str, admission: Admission) -> Caller:
        """Return who shows *token*, which *admission* ends with. Raises the 401, after a while, for a wrong one."""
        # Memory alone is asked: with a thread for it, those who wait for the database would keep everybody out.
        principal = self._verify(token)
        if principal is not None:
            self.admissions.enter(admission, principal.token, principal.expires)
            return Caller(
                name=f"token {principal.name}",
                scope=principal.scope,
                apps=principal.apps,
                hosts=principal.hosts,
                token=principal.token,
            )
        count = self._count(client)
        LOG.warning("a token was refused", client=client, times=count)
        await asyncio.sleep(min(self.LONGEST_S, 0.02 * 2**count))
        raise Problem(401, "bad-token", ENDED)

    def _count(self, client: str) -> int:
        now = time.monotonic()
        if len(self._failures) > self.CLIENTS:
            self._failures = {one: seen for one, seen in self._failures.items() if now - seen[1] < self.FORGET_S}
        count, last = self._failures.get(client, (0, now))
        count = min(count + 1, 10) if now - last < self.FORGET_S else 1
        self._failures[client] = (count, now)
        return count


async def identify(connection: HTTPConnection) -> Caller:
    """Return the caller of a request, who is asked once. Raises the 401 where nobody vouches for it."""
    state = connection.scope["state"]
    if "caller" not in state:
        state["caller"] = await _identify(connection, state["admission"])
    known: Caller = state["caller"]
    return known


async def _identify(connection: HTTPConnection, admission: Admission) -> Caller:
    client = connection.client.host if connection.client is not None else ""
    gate: Gate = connection.app.state.gate
    if client.startswith(PINNED):
        return await gate.check("a pinned connection", client.removeprefix(PINNED), admission)
    if token := shown_token(connection):
        return await gate.check(client, token, admission)
    if client.startswith(PEER):
        return Caller(name=name_of(client.removeprefix(PEER)), scope="admin")
    raise Problem(401, "no-token", "this needs a token: Authorization: Bearer oton_…")


def shown_token(connection: HTTPConnection) -> str:
    """Return the token that a request shows; "" where it shows none."""
    scheme, _, shown = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return shown.strip()
    # Nowhere else: a browser repeats a password by itself, also where another site made it ask.
    if scheme.lower() == "basic" and connection.url.path == BROWSED:
        with suppress(ValueError):
            return base64.b64decode(shown.strip(), validate=True).decode().partition(":")[2].strip() or "none"
    return ""


def name_of(uid: str) -> str:
    """Return the user's name for a uid, or the uid itself."""
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except (KeyError, ValueError, OverflowError):
        return f"uid {uid}"


Who = Annotated[Caller, Depends(identify)]


def only_seen(caller: Caller, rows: Collection[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the caller's own apps."""
    return [row for row in rows if caller.sees(row.get("app"))]
