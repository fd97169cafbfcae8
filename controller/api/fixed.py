"""Fixed routes, for admins: hosts and paths that lead to things which Docker does not run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from controller.api.auth import Who
from controller.api.parts import Parts
from controller.api.problems import Problem
from controller.api.rights import Guarded, needs
from controller.api.tokens import Host
from controller.errors import Refused
from controller.fixed.targets import read_target
from controller.plan.claims import Claims, claims_of_routes
from controller.queries import Row
from controller.routing.table import Upstream
from controller.spec.hosts import read_path
from controller.store.fixed import FixedRoute

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
RESERVED = frozenset(("api",))
OTHERS = frozenset(("fixed", "explain"))
"""What stands where a fixed route's name would: these paths are not routes of that name."""


class RouteWish(BaseModel):
    """A fixed route."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[Name, Field(examples=["legacy"])]
    host: Host | None = None
    """Exact, `*.example.com`, or absent: any host."""
    path: Annotated[str, Field(max_length=1000)] = "/"
    strip_path: bool = False
    targets: Annotated[list[Annotated[str, Field(max_length=260)]], Field(min_length=1, max_length=100)]
    """`host:port` each; plain HTTP is spoken."""
    health_path: Annotated[str | None, Field(max_length=1000, pattern=r"^/[!-~]*$")] = None


def build_router(parts: Parts) -> APIRouter:
    """Return what changes fixed routes; the table itself is read elsewhere."""
    router = APIRouter(route_class=Guarded, prefix="/v1/routes", tags=["service"])
    fixed = parts.fixed

    @router.get("/fixed", summary="The fixed routes, with the targets that are ready")
    @needs("admin", whole=True)
    def list_fixed(who: Who) -> list[Row]:
        return [render_fixed(route, upstreams) for route, upstreams in fixed.all()]

    @router.post("", status_code=201, summary="Add a fixed route, or replace the one of that name")
    @needs("admin", whole=True)
    def add(who: Who, wish: RouteWish) -> Row:
        route = read_wish(parts, wish, who.name)
        owners = claims_of_others(parts, route.name)

        def put() -> FixedRoute:
            added: FixedRoute = fixed.add(route, owners)
            return added

        return render_fixed(parts.orders.act(f"route add {route.name}", "", who.name, put, ring=False), ())

    @router.delete("/{name}", summary="Take a fixed route away")
    @needs("admin", whole=True)
    def remove(name: str, who: Who) -> Row:
        if name in OTHERS:
            raise HTTPException(405, "Method Not Allowed")
        known = {route.name: route for route, _ in fixed.all()}
        if name not in known:
            raise Problem(404, "no-such-route", f"{name[:40]}: no fixed route of that name")
        parts.orders.act(f"route rm {name}", "", who.name, lambda: fixed.remove(name), ring=False)
        return render_fixed(known[name], ())

    return router


def read_wish(parts: Parts, wish: RouteWish, by: str) -> FixedRoute:
    """Return the route that was asked for; Problem where a field cannot be so."""
    if wish.name in RESERVED | OTHERS:
        raise Problem(422, "bad-route", f"name: {wish.name} is the service's own")
    try:
        for text in wish.targets:
            read_target(text)
        path = read_path(wish.path)
    except (Refused, ValueError) as error:
        raise Problem(422, "bad-route", str(error)) from None
    return FixedRoute(
        name=wish.name,
        host=wish.host,
        path=path,
        strip=wish.strip_path,
        targets=tuple(wish.targets),
        health_path=wish.health_path,
        by=by,
        at=parts.clock.now().wall,
    )


def claims_of_others(parts: Parts, name: str) -> dict[str, Claims]:
    """Return what apps and other fixed routes claim, by the name that a person is shown."""
    table = parts.publisher.table().apps
    apps = {f"app {app}": claims_of_routes(routes) for app, routes in table.items() if ":" not in app}
    others = {who: claims for who, claims in parts.fixed.claims().items() if who != f"fixed route {name}"}
    return apps | others


def render_fixed(route: FixedRoute, upstreams: tuple[Upstream, ...]) -> Row:
    """Render a fixed route."""
    return {
        "name": route.name,
        "host": route.host,
        "path": route.path,
        "strip_path": route.strip,
        "targets": list(route.targets),
        "health_path": route.health_path,
        "ready": [f"{u.address}:{u.port}" for u in upstreams],
        "by": route.by,
    }
