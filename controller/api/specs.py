"""Specs that are only looked at: is it valid, and what would it change?"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from controller.api.auth import Caller, Who
from controller.api.bodies import SPEC_BODY, read_spec
from controller.api.brought import claims_had, situation_of
from controller.api.parts import Parts
from controller.api.problems import Problem
from controller.api.readers import Readers
from controller.api.refusals import check_spec
from controller.api.rights import Guarded, needs
from controller.queries import Row
from controller.spec.diff import diff_specs
from controller.spec.model import AppSpec
from controller.spec.parse import Parsed, parse_file
from controller.spec.problems import Problem as Fault

FILE = "body"
"""What stands for the file's name in problems with a request's body."""


def build_router(parts: Parts, readers: Readers) -> APIRouter:
    """Return POST /v1/validate and POST /v1/diff."""
    router = APIRouter(route_class=Guarded, prefix="/v1", tags=["specs"])

    @router.post("/validate", summary="Every problem of a spec file at once", openapi_extra=SPEC_BODY)
    @needs("read")
    async def validate(request: Request, who: Who) -> Row:
        data = await read_spec(request)
        return await readers.run(who, lambda: render_parsed(parse_file(data, FILE)))

    @router.post("/diff", summary="What an apply would change, and the plan in words", openapi_extra=SPEC_BODY)
    @needs("deploy")
    async def diff(request: Request, who: Who) -> list[Row]:
        data = await read_spec(request)
        return await readers.run(who, lambda: foresee_all(parts, who, data))

    return router


def foresee_all(parts: Parts, who: Caller, data: bytes) -> list[Row]:
    """Say what applying a body's specs would change. Raises the 403 for what *who* may not ask for, and the 422."""
    specs = read_good(data)
    for spec in specs:
        who.need("deploy", spec.name)
        check_spec(who, spec, claims_had(parts, spec.name), parts.settings)
    return [foresee(parts, spec) for spec in specs]


def render_parsed(parsed: Parsed) -> Row:
    """Render what was found in a file."""
    return {
        "valid": not parsed.problems,
        "apps": [document.name for document in parsed.documents if document.name],
        "problems": [render_problem_line(one) for one in parsed.problems],
        "warnings": [render_problem_line(one) for one in parsed.warnings],
    }


def render_problem_line(problem: Fault) -> Row:
    """Render one problem with its place."""
    return {
        "file": problem.file,
        "line": problem.line,
        "field": problem.field,
        "found": problem.found,
        "allowed": problem.allowed,
        "message": problem.message,
        "text": problem.text,
    }


def read_good(data: bytes) -> list[AppSpec]:
    """Return the specs of a body. Raises the 422 with every problem."""
    parsed = parse_file(data, FILE)
    if parsed.problems:
        lines = [one.text for one in parsed.problems]
        raise Problem(422, "refused", "\n".join(lines), problems=lines)
    specs = [document.spec for document in parsed.documents if document.spec is not None]
    if not specs:
        raise Problem(422, "refused", "no document in it", problems=[f"{FILE}: no document in it"])
    return specs


def foresee(parts: Parts, spec: AppSpec) -> Row:
    """Say what applying *spec* would change beside what serves now."""
    seen = parts.model.seen(spec.name)
    live = seen.live if seen is not None else None
    changes = diff_specs(live.spec if live is not None else None, spec)
    return {
        "app": spec.name,
        "release": live.number if live is not None else None,
        "changes": [
            {"field": one.field, "old": plain(one.old), "new": plain(one.new), "replaces": one.replaces}
            for one in changes
        ],
        "plan": list(parts.preview(situation_of(parts, spec.name), spec)) if changes else [],
    }


def plain(value: Any) -> Any:
    """Return a spec's value as JSON can hold it."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, tuple | list | frozenset):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    return value
