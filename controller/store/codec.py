"""
Our frozen values as JSON, and back.

Every field is written. Reading ignores fields it does not know and gives missing ones their default, so a row
of a neighbouring version loads. Specs are read and written by the spec room.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from controller.errors import Broken
from controller.spec.model import AppSpec, load_stored

Turn = Callable[[Any], Any]


def encode(value: object, *, without: frozenset[str] = frozenset()) -> str:
    """Return *value* (a dataclass) as JSON text, but for the fields in *without*. Any text survives, surrogates too."""
    kind: Any = type(value)
    return dump({name: turn(getattr(value, name)) for name, turn in _writers(kind) if name not in without})


def decode[T](kind: type[T], text: str, /, **known: object) -> T:
    """Return the *kind* that `encode` wrote, with the fields in *known* given; Broken if it is none."""
    try:
        stored = json.loads(text)
        return _build(kind, stored, known)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Broken(f"a stored {kind.__name__} cannot be read: {error}") from error


def encode_spec(spec: AppSpec) -> str:
    """Return *spec* as JSON text."""
    return spec.model_dump_json()


def decode_spec(text: str) -> AppSpec:
    """Return the spec that `encode_spec` wrote, in this version or a neighbouring one; Broken if it is none."""
    try:
        return load_stored(text)
    except ValueError as error:
        raise Broken(f"a stored spec cannot be read: {error}") from error


def dump(value: object) -> str:
    """Return JSON without spaces, in ASCII."""
    return json.dumps(value, separators=(",", ":"))


def clean_text(text: str) -> str:
    """Return *text* with what UTF-8 cannot hold (bytes of a log that were no text) replaced."""
    return text.encode("utf-8", "replace").decode()


def _build[T](kind: type[T], stored: object, known: Mapping[str, object]) -> T:
    if not isinstance(stored, dict):
        raise TypeError(f"found {type(stored).__name__}, allowed: an object")
    given = dict(known)
    fields_of: Any = kind
    for name, field, turn in _readers(fields_of):
        if name in stored and name not in given:
            given[name] = turn(stored[name])
        elif name not in given and field.default is MISSING and field.default_factory is MISSING:
            raise KeyError(f"field {name} is missing")
    return kind(**given)


@cache
def _writers(kind: Any) -> tuple[tuple[str, Turn], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, _turns(hints[field.name])[0]) for field in fields(kind))


@cache
def _readers(kind: Any) -> tuple[tuple[str, Field[Any], Turn], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, field, _turns(hints[field.name])[1]) for field in fields(kind))


@cache
def _turns(kind: Any) -> tuple[Turn, Turn]:
    """Return how a value of *kind* becomes JSON and how it comes back."""
    origin, inside = get_origin(kind), get_args(kind)
    if kind is AppSpec:
        return (lambda v: json.loads(encode_spec(v))), (lambda v: decode_spec(dump(v)))
    if is_dataclass(kind) and isinstance(kind, type):
        return _dataclass_turns(kind)
    if origin in (Union, types.UnionType):
        return _optional_turns(inside)
    if origin is tuple:
        return _tuple_turns(inside)
    if origin is frozenset:
        one = _turns(inside[0])
        return (lambda v: sorted(map(one[0], v))), (lambda v: frozenset(map(one[1], v)))
    if origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return _mapping_turns(*inside)
    if kind in (str, bool, int) or origin is Literal:
        return _same, _same
    if kind is float:
        return float, float
    raise Broken(f"no JSON form for {kind}")


def _dataclass_turns(kind: Any) -> tuple[Turn, Turn]:
    turns = _writers(kind)

    def write(value: Any) -> dict[str, Any]:
        return {name: turn(getattr(value, name)) for name, turn in turns}

    return write, lambda stored: _build(kind, stored, {})


def _optional_turns(inside: tuple[Any, ...]) -> tuple[Turn, Turn]:
    some = [one for one in inside if one is not type(None)]
    if len(some) != 1:
        raise Broken(f"no JSON form for a union of {inside}")
    write, read = _turns(some[0])
    return (lambda v: None if v is None else write(v)), (lambda v: None if v is None else read(v))


def _tuple_turns(inside: tuple[Any, ...]) -> tuple[Turn, Turn]:
    if len(inside) == 2 and inside[1] is Ellipsis:
        one = _turns(inside[0])
        return (lambda v: list(map(one[0], v))), (lambda v: tuple(map(one[1], v)))
    each = [_turns(kind) for kind in inside]
    return (
        lambda v: [turn[0](part) for turn, part in zip(each, v, strict=True)],
        lambda v: tuple(turn[1](part) for turn, part in zip(each, v, strict=True)),
    )


def _mapping_turns(key: Any, value: Any) -> tuple[Turn, Turn]:
    write, read = _turns(value)
    turn_key = int if key is int else str
    return (
        lambda v: {str(name): write(v[name]) for name in sorted(v)},
        lambda v: {turn_key(name): read(part) for name, part in v.items()},
    )


def _same(value: Any) -> Any:
    return value
