"""
Who is calling and what that caller may do.

Whoever may open the socket is admin and known by the kernel's word for its user; on TCP a bearer AppToken says.
"""

from __future__ import annotations

import pwd
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends
from starlette.requests import HTTPConnection

from controller.api.problems import Problem

Scope = Literal["read", "deploy", "admin"]
RANK: dict[str, int] = {"read": 0, "deploy": 1, "admin": 2}
PEER = "uid:"
"""What our protocol class puts in front of a socket peer's uid; no network address looks like it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One who asks, and what it may touch; *apps* None: all."""

    name: str
    scope: Scope
    apps: frozenset[str] | None = None
    hosts: tuple[str, ...] = ()
    local: bool = False

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


Check = Callable[[HTTPConnection, str], Caller | None]
"""Turns a bearer token into a caller; None where it is wrong, expired or revoked."""


def identify(connection: HTTPConnection) -> Caller:
    """Return the caller of a request. Raises the 401 where nobody vouches for it."""
    client = connection.client
    if client is not None and client.host.startswith(PEER):
        return Caller(name=name_of(client.host.removeprefix(PEER)), scope="admin", local=True)
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    check: Check | None = getattr(connection.app.state, "check_token", None)
    if check is None or scheme.lower() != "bearer" or not token.strip():
        raise Problem(401, "no-token", "this needs a token: Authorization: Bearer oton_…")
    caller = check(connection, token.strip())
    if caller is None:
        raise Problem(401, "bad-token", "this token is not valid (any more)")
    return caller


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
