"""AppTokens: made, listed and revoked by admins; a secret is in one answer, once."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from controller.api.auth import Scope, Who
from controller.api.parts import Parts
from controller.api.problems import Problem
from controller.api.rights import Guarded, needs
from controller.clock import render_time
from controller.queries import Row

HOST = r"^(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
Host = Annotated[str, Field(pattern=HOST)]

App = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


class TokenWish(BaseModel):
    """A token to make."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=64, examples=["ci"])]
    scope: Scope = "deploy"
    apps: Annotated[list[App] | None, Field(max_length=1000)] = None
    hosts: Annotated[list[Host], Field(max_length=1000)] = []
    ttl_s: Annotated[float | None, Field(gt=0, le=10 * 365 * 86400)] = None


def build_router(parts: Parts) -> APIRouter:
    """Return /v1/tokens."""
    router = APIRouter(route_class=Guarded, prefix="/v1/tokens", tags=["access"])
    tokens = parts.ledger.tokens

    @router.get("", summary="All tokens, without their secrets")
    @needs("admin", whole=True)
    def list_tokens(who: Who) -> list[Row]:
        now = parts.clock.now().wall
        return [render_token(token, now) for token in tokens.list()]

    @router.post("", status_code=201, summary="Make a token; its secret is shown this once")
    @needs("admin", whole=True)
    def create(who: Who, wish: TokenWish) -> Row:
        refuse_half_an_admin(wish)

        def make() -> Any:
            fields = {"scope": wish.scope, "apps": wish.apps, "hosts": wish.hosts, "ttl_s": wish.ttl_s}
            return tokens.create(wish.name, by=who.name, **fields)

        secret, token = parts.orders.act(f"token create {wish.name[:64]}", "", who.name, make)
        return render_token(token, parts.clock.now().wall) | {"secret": secret}

    @router.delete("/{name:path}", summary="End a token at once")
    @needs("admin", whole=True)
    def revoke(name: str, who: Who) -> Row:
        now = parts.clock.now().wall
        if not any(one.name == name and state_of(one, now) == "valid" for one in tokens.list()):
            raise Problem(404, "no-such-token", f"{name[:64]}: no such token that is valid")
        token = parts.orders.act(f"token revoke {name[:64]}", "", who.name, lambda: tokens.revoke(name))
        return render_token(token, now)

    return router


def refuse_half_an_admin(wish: TokenWish) -> None:
    """Raise the 422 for an admin of some apps: what a spec can ask of the machine knows no apps."""
    if wish.scope == "admin" and wish.apps is not None:
        detail = "scope admin cannot be limited to apps; use --scope deploy --app NAME, or leave out --app"
        raise Problem(422, "refused", detail, problems=[detail])


def state_of(token: Any, now: float) -> str:
    """Say whether a token is valid, revoked or expired."""
    if token.revoked is not None:
        return "revoked"
    return "expired" if token.expires is not None and now >= token.expires else "valid"


def render_token(token: Any, now: float) -> Row:
    """Render a token."""
    times = {name: getattr(token, name) for name in ("created", "expires", "last_used", "revoked")}
    return {
        "name": token.name,
        "scope": token.scope,
        "apps": sorted(token.apps) if token.apps is not None else None,
        "hosts": list(token.hosts),
        "state": state_of(token, now),
        "by": token.by,
        **{name: render_time(moment) if moment is not None else None for name, moment in times.items()},
    }
