"""Every value that is kept comes back as it was, and rows of neighbouring versions load."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import Broken
from controller.plan.situation import Answer, Memory, Order, Release, Standing
from controller.spec.model import AppSpec
from controller.store.codec import decode, encode
from controller.store.fixed import FixedRoute
from tests.builders import a_spec

SPECS = [
    a_spec(),
    a_spec(strategy={"type": "blue_green", "promote": "manual"}, environment={"A": "ü\n1"}),
    a_spec(strategy={"type": "rolling", "max_surge": "25%"}, health={"path": "/h", "status": "200-299"}),
    a_spec(strategy="recreate", before={"command": ["migrate"]}, volumes=["data:/data"], resources={"memory": "64M"}),
]
TEXT = st.text(st.characters(), max_size=12)  # surrogates too
KINDS: tuple[type[Any], ...] = (Memory, Release, Order, Answer, Standing, FixedRoute)


def every(kind: Any) -> st.SearchStrategy[Any]:
    """Return values of *kind* with every field drawn, optional ones too."""
    origin, inside = get_origin(kind), get_args(kind)
    if kind is AppSpec:
        return st.sampled_from(SPECS)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return st.builds(kind, **{field.name: every(hints[field.name]) for field in fields(kind)})
    if origin in (Union, types.UnionType):
        return st.one_of(*map(every, inside))
    if origin is Literal:
        return st.sampled_from(inside)
    if origin is tuple:
        if inside[1:] == (Ellipsis,):
            return st.lists(every(inside[0]), max_size=3).map(tuple)
        return st.tuples(*map(every, inside))
    if origin is frozenset:
        return st.frozensets(every(inside[0]), max_size=3)
    if origin is Mapping:
        return st.dictionaries(every(inside[0]), every(inside[1]), max_size=3)
    plain = {
        str: TEXT,
        int: st.integers(-(2**62), 2**62),
        bool: st.booleans(),
        type(None): st.none(),
        float: st.floats(allow_nan=False, allow_infinity=False),
    }
    return plain[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_comes_back_as_it_was(kind: type[Any]):
    @settings(max_examples=60, deadline=None)
    @given(every(kind))
    def holds(value: Any) -> None:
        text = encode(value)
        assert text.isascii()
        assert decode(kind, text) == value

    holds()


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_fields_are_ignored_and_missing_ones_take_their_defaults(kind: type[Any]):
    optional = [one for one in fields(kind) if one.default is not MISSING or one.default_factory is not MISSING]

    @settings(max_examples=30, deadline=None)
    @given(every(kind), st.sets(st.sampled_from([one.name for one in optional])) if optional else st.just(set()))
    def holds(value: Any, missing: set[str]) -> None:
        stored = json.loads(encode(value)) | {"from_the_future": {"a": [1]}}
        for name in missing:
            del stored[name]
        read = decode(kind, json.dumps(stored))
        for field in fields(kind):
            default = field.default if field.default_factory is MISSING else field.default_factory()
            assert getattr(read, field.name) == (default if field.name in missing else getattr(value, field.name))

    holds()


def test_a_spec_with_fields_of_a_newer_version_loads():
    stored = json.loads(encode(Standing(app="shop", wanted=None)))
    stored["wanted"] = {"digest": "d", "spec": json.loads(a_spec().model_dump_json()) | {"teleport": {"to": "moon"}}}
    assert decode(Standing, json.dumps(stored)).wanted.spec == a_spec()


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"order": 1}', '{"wanted": 3, "app": "shop"}', '"x"'])
def test_what_is_no_such_value_is_broken_and_says_what(text: str):
    with pytest.raises(Broken, match="a stored Standing cannot be read"):
        decode(Standing, text)
