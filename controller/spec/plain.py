"""A spec as plain values again: only what differs from the defaults, as raw numbers or as people write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, BeforeValidator

from controller.spec.base import Part
from controller.spec.health import Health
from controller.spec.limits import SecretRef, Ulimit
from controller.spec.strategies import AnyStrategy
from controller.spec.values import (
    read_cpus,
    read_duration,
    read_interval,
    read_positive_duration,
    read_rate,
    read_size,
    render_cpus,
    render_duration,
    render_size,
)
from controller.spec.volumes import Volume

Render = Callable[[Any], Any]


def plain_part(part: Part) -> dict[str, Any]:
    """Return the fields that differ from their defaults, numbers raw: the form that digests are made of.

    Defaults are left out so that a field which a later version adds changes no digest.
    """
    return {name: _plain(value) for name, value in set_fields(part).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return plain_part(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def set_fields(part: Part) -> dict[str, Any]:
    """Return the fields of *part* that differ from their defaults, by their names in YAML."""
    found = {}
    for name, alias, default in _defaults(type(part)):
        value = getattr(part, name)
        # Two strategies with nothing but defaults differ in their type alone.
        if value != default or (name == "type" and isinstance(part, AnyStrategy)):
            found[alias] = value
    return found


@cache
def _defaults(kind: type[BaseModel]) -> tuple[tuple[str, str, Any], ...]:
    return tuple(
        (name, info.alias or name, info.get_default(call_default_factory=True))
        for name, info in kind.model_fields.items()
    )


def written_part(part: Part) -> Any:
    """Return *part* as people write it: durations and sizes with units, short forms where there are any."""
    short = _write_short(part)
    if short is not None:
        return short
    renders = _renders(type(part))
    return {name: written_value(value, renders.get(name)) for name, value in set_fields(part).items()}


def written_value(value: Any, render: Render | None = None) -> Any:
    """Return one field's value as people write it."""
    if value is None:
        return None
    if render is not None:
        return render(value)
    if isinstance(value, Part):
        return written_part(value)
    if isinstance(value, Mapping):
        return {key: written_value(item) for key, item in value.items()}
    return [written_value(item) for item in value] if isinstance(value, tuple) else value


def written_field(kind: type[Part], name: str, value: Any) -> Any:
    """Return *value* of the field that YAML calls *name* in *kind* as people write it."""
    return written_value(value, _renders(kind).get(name))


def _write_short(part: Part) -> Any:
    if isinstance(part, Volume):
        return _write_volume(part)
    if isinstance(part, SecretRef) and not part.file:
        return part.name
    if isinstance(part, Ulimit) and part.soft == part.hard:
        return part.soft
    if isinstance(part, AnyStrategy) and len(set_fields(part)) == 1:
        return part.type
    return None


def _write_volume(volume: Volume) -> Any:
    if volume.external:
        mount: dict[str, Any] = {"name": volume.source, "external": True, "target": volume.target}
    elif not volume.source:
        mount = {"target": volume.target}
    elif ":" in volume.source + volume.target:
        mount = {"source": volume.source, "target": volume.target}
    else:
        modes = [*(["ro"] if volume.read_only else []), *volume.options]
        return ":".join([volume.source, volume.target, *([",".join(modes)] if modes else [])])
    if volume.read_only:
        mount["read_only"] = True
    if volume.options:
        mount["options"] = list(volume.options)
    return mount["target"] if set(mount) == {"target"} and ":" not in volume.target else mount


def _write_status(ranges: tuple[tuple[int, int], ...]) -> Any:
    texts = [str(low) if low == high else f"{low}-{high}" for low, high in ranges]
    return texts[0] if len(texts) == 1 else texts


def _write_test(test: tuple[str, ...]) -> Any:
    if test[0] == "CMD-SHELL":
        return test[1]
    return list(test) if test[1] in {"CMD", "CMD-SHELL", "NONE"} else list(test[1:])


def _write_rate(rate: float) -> str:
    return f"{rate * 100:.10g}%"


_RENDERS: dict[Any, Render] = {
    read_duration: render_duration,
    read_positive_duration: render_duration,
    read_interval: render_duration,
    read_cpus: render_cpus,
    read_size: render_size,
    read_rate: _write_rate,
}


@cache
def _renders(kind: type[BaseModel]) -> Mapping[str, Render]:
    """Return how the fields of *kind* that have a unit are written."""
    found: dict[str, Render] = {}
    for name, info in kind.model_fields.items():
        for mark in [*info.metadata, *_marks(info.annotation)]:
            if isinstance(mark, BeforeValidator) and mark.func in _RENDERS:
                found[info.alias or name] = _RENDERS[mark.func]
    if kind is Health:
        found |= {"status": _write_status, "command": _write_test}
    return found


def _marks(annotation: Any) -> list[Any]:
    """Return the markers of an annotation's members, such as those of `Duration | None`."""
    marks = list(getattr(annotation, "__metadata__", ()))
    for member in get_args(annotation):
        marks += _marks(member)
    return marks
