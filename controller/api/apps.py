"""Apps, their releases, and every order that a person can give."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from controller.api.auth import Caller, Who, only_seen
from controller.api.bodies import SPEC_BODY, read_spec
from controller.api.brought import check_order, claims_had
from controller.api.masking import mask
from controller.api.parts import Parts
from controller.api.problems import Problem, no_such_app
from controller.api.readers import Readers
from controller.api.refusals import check_spec
from controller.api.rights import Guarded, needs
from controller.orders import GIVEN, Accepted
from controller.plan.situation import Answer, Order, Verb
from controller.queries import OrderLine, Row, render_release, render_standing, render_step
from controller.spec.model import AppSpec
from controller.spec.parse import parse_file
from controller.spec.sensitive import mask_spec

NAME = r"^[a-z][a-z0-9-]{0,39}$"
AppName = Annotated[str, Path(pattern=NAME, description="The app's name", examples=["shop"])]
Number = Annotated[int, Path(ge=1, le=2**31, description="A release's number")]
ANSWERS = 200
"""How many of an app's newest orders can still be asked for."""
MODEL = ConfigDict(extra="forbid")


class RollbackOrder(BaseModel):
    """Back to an earlier release."""

    model_config = MODEL
    to: Annotated[int | None, Field(ge=1, le=2**31, description="The release; without it, the one before")] = None


class MaintenanceOrder(BaseModel):
    """Answer 503 on all of the app's routes, or serve again."""

    model_config = MODEL
    on: StrictBool = True
    message: Annotated[str, Field(max_length=1000)] = ""


class Change(BaseModel):
    """What an accepted change is known by."""

    app: str
    change: Annotated[int, Field(description="Judge nothing before the app's `change` is at least this one")]
    file: str = ""
    digest: str = ""


def build_router(parts: Parts, readers: Readers) -> APIRouter:
    """Return the routes below /v1/apps that read or order."""
    router = APIRouter(route_class=Guarded, prefix="/v1/apps", tags=["apps"])
    add_reading(router, parts)
    add_changing(router, parts, readers)
    for verb in sorted(GIVEN - {"rollback", "maintenance"}):
        add_plain_order(router, parts, verb)
    return router


def add_reading(router: APIRouter, parts: Parts) -> None:
    """Add lists, views and releases."""

    @router.get("", summary="All apps, one status row each")
    @needs("read")
    async def list_apps(who: Who) -> list[Row]:
        return only_seen(who, list_rows(parts, who))

    @router.get("/{app}", summary="One app in full")
    @needs("read")
    async def get_app(app: AppName, who: Who) -> Row:
        return find_app(parts, app)

    @router.get("/{app}/orders/{change}", summary="What became of a change")
    @needs("read")
    def get_order(app: AppName, change: Annotated[int, Path(ge=1)], who: Who) -> Row:
        return find_order(parts, app, change)

    @router.get("/{app}/releases", summary="The app's releases, newest first")
    @needs("read")
    def list_releases(app: AppName, who: Who) -> list[Row]:
        now = parts.clock.now()
        rows = [render_release(one, now) for one in parts.ledger.releases(app)]
        if not rows and parts.model.seen(app) is None and app not in parts.directory.standings():
            raise no_such_app(app)
        return sorted(rows, key=lambda row: -row["release"])

    @router.get("/{app}/releases/{number}", summary="One release with the steps of its rollout")
    @needs("read")
    def get_release(app: AppName, number: Number, who: Who) -> Row:
        release = next((one for one in parts.ledger.releases(app) if one.number == number), None)
        if release is None:
            raise Problem(404, "no-such-release", f"{app}: no release {number}")
        steps = [render_step(step) for step in parts.ledger.steps(app, number)]
        return render_release(release, parts.clock.now()) | {
            "spec": show_spec(who, release.spec),
            "steps": steps,
        }


def add_changing(router: APIRouter, parts: Parts, readers: Readers) -> None:
    """Add upload, delete, and the orders that carry more than a name."""

    @router.put("/{app}/spec", status_code=202, summary="Upload the app's spec", openapi_extra=SPEC_BODY)
    @needs("deploy")
    async def put_spec(app: AppName, request: Request, who: Who) -> Change:
        data = await read_spec(request)
        return accept(await readers.run(who, lambda: upload(parts, who, app, data)))

    @router.delete("/{app}", status_code=202, summary="Take the app's spec away and remove what runs of it")
    @needs("deploy")
    def delete_app(app: AppName, who: Who) -> Change:
        return accept(parts.orders.delete(app, who.name))

    @router.post("/{app}/rollback", status_code=202, summary="Back to an earlier release, pinned there")
    @needs("deploy")
    def rollback(app: AppName, who: Who, order: RollbackOrder | None = None) -> Change:
        to = order.to if order is not None else None
        judged = check_order(parts, who, app, "rollback", to)
        return accept(parts.orders.give("rollback", app, who.name, to=to, judged=judged))

    @router.post("/{app}/maintenance", status_code=202, summary="Answer 503 with a message, or serve again")
    @needs("deploy")
    def maintenance(app: AppName, who: Who, order: MaintenanceOrder) -> Change:
        return accept(parts.orders.give("maintenance", app, who.name, on=order.on, message=order.message))


def add_plain_order(router: APIRouter, parts: Parts, verb: Verb) -> None:
    """Add one order that is only a verb."""

    @needs("deploy")
    def give(app: AppName, who: Who) -> Change:
        return accept(parts.orders.give(verb, app, who.name, judged=check_order(parts, who, app, verb)))

    router.add_api_route(
        f"/{{app}}/{verb}", give, methods=["POST"], status_code=202, name=verb, summary=f"Order: {verb}"
    )


def show_spec(who: Caller, spec: AppSpec) -> Row:
    """Render a spec; who may not deploy sees nothing in it that would let somebody in."""
    row: Row = spec.model_dump(mode="json")
    return row if who.may("deploy") else mask_spec(row)


def upload(parts: Parts, who: Caller, app: str, data: bytes) -> Accepted:
    """Put a spec into the watched directory. Raises the 403 where *who* may not have it there."""
    if who.is_limited:
        check_upload(parts, who, app, data)
    return parts.orders.apply(app, data, who.name)


def check_upload(parts: Parts, who: Caller, app: str, data: bytes) -> None:
    """Raise the 403 where a spec asks for what its bearer may not have; one that is broken is refused elsewhere."""
    for document in parse_file(data, f"{app}.yaml").documents:
        if document.spec is not None:
            check_spec(who, document.spec, claims_had(parts, app), parts.settings)


def accept(accepted: Accepted) -> Change:
    """Render an accepted change."""
    return Change(**asdict(accepted))


def list_rows(parts: Parts, who: Caller) -> list[Row]:
    """Return a row for each app, for each that only has a file, and for each file whose app cannot be told."""
    rows = parts.model.rows()
    known = {row["app"] for row in rows}
    waiting = [
        render_standing(one)
        for app, one in sorted(parts.directory.standings().items())
        if app not in known and not one.gone
    ]
    lost = [render_lost(problem) for problem in parts.directory.problems()] if who.apps is None else []
    return sorted(rows + waiting, key=lambda row: str(row["app"])) + lost


def render_lost(problem: Any) -> Row:
    """Render a file whose app cannot be told."""
    return render_standing(None) | {"file": problem.file, "message": problem.text}


def find_app(parts: Parts, app: str) -> Row:
    """Return the app's full view; raises the 404."""
    view = parts.model.app(app)
    if view is not None:
        masked: Row = mask(parts, app, view)
        return masked
    standing = parts.directory.standings().get(app)
    if standing is None or standing.gone:
        raise no_such_app(app)
    return render_standing(standing) | {"orders": [line.render() for line in parts.model.orders(app)]}


def find_order(parts: Parts, app: str, change: int) -> Row:
    """Return what became of an order of the app; raises the 404."""
    for line in parts.model.orders(app):
        if line.change == change:
            return line.render() | {"state": "answered"}
    asked = next((one for one in parts.ledger.answers(app, ANSWERS) if one.order.id == change), None)
    if asked is None:
        raise Problem(404, "no-such-change", f"{app}: no change {change}")
    if asked.answer is None:
        return {
            "change": change,
            "verb": asked.order.verb,
            "result": None,
            "release": None,
            "text": "",
            "state": "open",
        }
    return render_answer(asked.order, asked.answer) | {"state": "answered"}


def render_answer(order: Order, answer: Answer) -> Row:
    """Render what became of an order."""
    line = OrderLine(change=order.id, verb=order.verb, result=answer.result, release=answer.release, text=answer.text)
    return line.render()
