"""Turns the errors of validation into problems with line, field, what was found and what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, get_args

from pydantic import BaseModel

from controller.spec.faults import Fault, Place
from controller.spec.model import AppSpec
from controller.spec.problems import Problem, quote, render_field
from controller.spec.strategies import STRATEGIES, AnyStrategy, Rolling
from controller.spec.tree import Fields, Items, Node, Scalar
from controller.spec.volumes import Volume

Say = Callable[[], Problem]
"""Puts one problem into words."""

HINTS = {
    "ports": "`port` is the one that speaks HTTP, `routes` say who gets there; no port of the host is published",
    "build": "build the image first and name it in `image`",
    "container_name": "containers are named APP-rN-I",
    "depends_on": "apps do not wait for each other; a probe says when one is ready",
    "deploy": "use `replicas`, `resources` and `strategy`",
    "expose": "apps that name the same network under `networks` reach all ports of each other",
    "healthcheck": "use `health`; its `command` becomes the container's HEALTHCHECK",
    "privileged": "use `cap_add` for what is needed",
    "network_mode": "use `networks` to join further networks",
    "restart": "the controller alone restarts containers",
    "services": "this looks like a Compose file; one document here is one app, with `name` and `image` at the top",
    "version": "the image's tag is the version",
    "stop_grace_period": "use `stop_grace`",
}
"""What people bring along from Compose, and what stands for it here."""


def say_fault(file: str, root: Node, place: Place, fault: Fault) -> Problem:
    """Return the problem for *fault* at *place* in the document."""
    where = (*place, *fault.at)
    line, node = locate(root, where)
    if fault.message:
        return Problem(file=file, line=line, field=render_field(where), message=fault.message)
    return Problem(file=file, line=line, field=render_field(where), found=describe(node), allowed=fault.allowed)


def saying_error(file: str, root: Node, error: Mapping[str, Any]) -> list[Say]:
    """Return what puts one error of pydantic's into words, a problem each; nobody may want to hear them all."""
    place = _without_tag(tuple(error["loc"]))
    if error["type"] == "spec":
        return [partial(say_fault, file, root, place, fault) for fault in error["ctx"]["faults"]]
    return [lambda: say_fault(file, root, place, _find_fault(root, place, error))]


def _find_fault(root: Node, place: Place, error: Mapping[str, Any]) -> Fault:
    kind = error["type"]
    if kind == "missing":
        return Fault(message="is missing; it is required")
    if kind == "extra_forbidden":
        return Fault(message=_say_unknown(root, place))
    return Fault(allowed=_say_allowed(kind, error.get("ctx", {}), str(error["msg"])))


def _without_tag(place: Place) -> Place:
    """Take out the strategy's type, which pydantic puts into a place although no file has it there."""
    is_tagged = place[:1] == ("strategy",) and len(place) > 1 and place[1] in STRATEGIES
    return ("strategy", *place[2:]) if is_tagged else place


def _say_allowed(kind: str, context: Mapping[str, Any], message: str) -> str:
    fixed = {
        "int_type": "a whole number",
        "bool_type": "true or false",
        "string_type": "a string",
        "float_type": "a number",
        "dict_type": "a mapping",
        "mapping_type": "a mapping",
        "model_type": "a mapping",
        "model_attributes_type": "a mapping",
        "tuple_type": "a list",
        "list_type": "a list",
        "string_pattern_mismatch": "a name of letters, digits, _, . and -, starting with a letter or _",
    }
    if kind == "literal_error":
        return re.sub(r"'|\bor\b ?", "", str(context["expected"]).replace(" or ", ", "))
    if kind == "greater_than_equal":
        return f"at least {context['ge']}"
    if kind == "less_than_equal":
        return f"at most {context['le']}"
    return "at least one item" if kind == "too_short" else fixed.get(kind, message)


def _say_unknown(root: Node, place: Place) -> str:
    name = str(place[-1])
    known = _known_fields(root, place[:-1])
    if len(place) == 1 and name in HINTS:
        return f"unknown field; {HINTS[name]}"
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    if close:
        return f"unknown field, did you mean {quote(close[0])}?"
    return f"unknown field, allowed: {', '.join(known)}" if len(known) <= 12 else "unknown field"


def _known_fields(root: Node, place: Place) -> list[str]:
    """Return the fields that the model at *place* has; a key of a mapping (a ulimit's name) leads nowhere new."""
    kind: type[BaseModel] = AppSpec
    for step in place:
        info = kind.model_fields.get(str(step))
        if info is not None:
            kind = _strategy_kind(root) if place[:1] == (step,) == ("strategy",) else _first_kind(info.annotation, kind)
    more = ["name"] if kind is Volume else []
    return [info.alias or name for name, info in kind.model_fields.items()] + more


def _strategy_kind(root: Node) -> type[BaseModel]:
    node = locate(root, ("strategy", "type"))[1]
    kinds = {str(kind.model_fields["type"].default): kind for kind in get_args(AnyStrategy)}
    return kinds.get(node.text, Rolling) if isinstance(node, Scalar) else Rolling


def _first_kind(annotation: Any, default: type[BaseModel]) -> type[BaseModel]:
    return next(iter(_kinds(annotation)), default)


def _kinds(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Return the models inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(kind for member in get_args(annotation) for kind in _kinds(member))


def locate(root: Node, place: Iterable[str | int]) -> tuple[int, Node | None]:
    """Return the line of *place* and its node; for what is not there, the line of what would hold it."""
    node: Node = root
    line = root.line
    for step in place:
        if isinstance(node, Fields) and str(step) in node.nodes:
            line, node = node.nodes[str(step)]
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.nodes):
            node = node.nodes[step]
            line = node.line
        else:
            return line, None
    return line, node


def describe(node: Node | None) -> str:
    """Return what was found, in words; a scalar is quoted, at most 80 characters of it."""
    if node is None:
        return "nothing"
    if isinstance(node, Items):
        return "a list"
    if isinstance(node, Fields):
        return "a mapping"
    return "nothing" if node.plain and node.text in {"", "~", "null", "Null", "NULL"} else quote(node.text)
