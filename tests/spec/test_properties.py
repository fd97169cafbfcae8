"""What holds for any spec, and for any bytes."""

from __future__ import annotations

import random

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.spec.diff import diff_specs
from controller.spec.digest import digest_container, digest_spec
from controller.spec.model import CONTAINER_FIELDS, AppSpec, load_stored
from controller.spec.parse import parse_file
from controller.spec.render import render_spec
from controller.spec.split import split_lines
from tests.parts.effort import examples
from tests.spec.drawing import raw_specs, specs

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(1200)]

relaxed = settings(deadline=None, max_examples=examples(40), suppress_health_check=[HealthCheck.too_slow])
NOTHING = frozenset[str]()


def read(text: str) -> AppSpec:
    parsed = parse_file(text.encode(), "f.yaml", not_yet=NOTHING)
    assert not parsed.problems, [problem.text for problem in parsed.problems]
    (document,) = parsed.documents
    assert document.spec is not None
    return document.spec


@relaxed
@given(specs)
def test_a_spec_rendered_as_yaml_reads_back_as_the_same_spec(spec):
    again = read(render_spec(spec))
    assert again == spec
    assert digest_spec(again) == digest_spec(spec)


@relaxed
@given(specs)
def test_a_stored_spec_comes_back_equal_with_the_same_digest(spec):
    again = load_stored(spec.model_dump_json())
    assert again == spec
    assert digest_spec(again) == digest_spec(spec)
    assert again.model_dump_json() == spec.model_dump_json()


def shuffled(value, rng):
    if isinstance(value, dict):
        items = list(value.items())
        rng.shuffle(items)
        return {key: shuffled(item, rng) for key, item in items}
    return value


@relaxed
@given(specs, st.randoms(use_true_random=False), st.sampled_from([2, 4, 7]), st.booleans())
def test_a_digest_does_not_depend_on_key_order_comments_or_white_space(spec, rng, indent, flow):
    raw = shuffled(yaml.safe_load(render_spec(spec)), rng)
    text = yaml.safe_dump(raw, sort_keys=False, indent=indent, default_flow_style=flow, allow_unicode=True)
    again = read(f"# a comment\n\n---\n{text}\n\n# the end\n")
    assert digest_spec(again) == digest_spec(spec)


@relaxed
@given(raw_specs, raw_specs)
def test_two_specs_have_one_digest_exactly_if_they_are_equal(one, two):
    first, second = AppSpec.model_validate(one), AppSpec.model_validate(two)
    assert (digest_spec(first) == digest_spec(second)) == (first == second)


@relaxed
@given(specs, specs)
def test_a_diff_names_a_replacing_field_exactly_if_the_container_digest_changes(old, new):
    new = new.model_copy(update={"name": old.name})
    changes = diff_specs(old, new)
    assert bool(changes) == (old != new)
    moved = digest_container(old, "sha256:1") != digest_container(new, "sha256:1")
    assert any(change.replaces for change in changes) == moved


@relaxed
@given(specs, specs)
def test_what_is_outside_of_the_container_part_restarts_nothing(old, new):
    kept = {field: getattr(old, field) for field in CONTAINER_FIELDS}
    health = new.health.model_copy(update={"command": old.health.command})
    moved = new.model_copy(update={**kept, "health": health})
    assert digest_container(moved, "i", [("A", 1)], 2) == digest_container(old, "i", [("A", 1)], 2)


@settings(deadline=None, max_examples=examples(300))
@given(st.binary(max_size=400))
def test_no_bytes_whatever_crash_the_parser(data):
    parsed = parse_file(data, "f.yaml")
    assert parsed.problems or all(document.spec for document in parsed.documents)


pieces = st.sampled_from(
    [
        "name: a",
        "image: b",
        "---",
        "...",
        "- ",
        "  ",
        "\n",
        ": ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "!x ",
        "%YAML 1.2",
        "# c",
        "'",
        '"',
        "? ",
        "",
        " ",
        "> ",
        "\t",
        "\r",
        "\u2028",
        "\ufeff",
        "0o7",
        "1e9",
        ".inf",
        "~",
        "true",
        "health:",
        "strategy: canary",
        "routes:",
        "x-a: ",
        "\x85",
        "\x00",
        "\ud7ff",
        "é",
        "proxy: ",
        "volumes: ",
        "port: 1",
    ]
)


@settings(deadline=None, max_examples=examples(150))
@given(st.lists(pieces, max_size=40).map("".join))
def test_no_mixture_of_yaml_pieces_crashes_the_parser(text):
    parsed = parse_file(text.encode("utf-8"), "f.yaml")
    lines = max(1, len(split_lines(text.removeprefix("\ufeff"))))
    for problem in parsed.problems:
        assert 1 <= problem.line <= lines
        assert "\n" not in problem.text
    for document in parsed.documents:
        assert (document.spec is None) == bool(document.problems)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted(AppSpec.model_fields)


@settings(deadline=None, max_examples=examples(150))
@given(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=6))
def test_any_value_in_any_field_is_taken_or_refused_with_a_field_and_a_line(raw):
    text = yaml.safe_dump({"name": "a", "image": "b", **raw}, allow_unicode=False)
    parsed = parse_file(text.encode(), "f.yaml")
    assert parsed.problems or parsed.documents[0].spec
    for problem in parsed.problems:
        assert problem.message or (problem.found and problem.allowed)


nested = {
    "health": ("path", "interval", "status", "headers", "command", "host", "passes"),
    "proxy": ("timeout", "headers", "basic_auth", "allow", "rate_limit", "redirects", "assets", "body_limit", "addons"),
    "strategy": ("type", "max_surge", "max_unavailable", "steps", "abort_on", "preview_host", "hold"),
    "before": ("command", "timeout"),
    "resources": ("cpus", "memory", "pids"),
    "routes": ("host", "path", "strip_path"),
    "volumes": ("type", "name", "source", "target", "read_only", "external", "options"),
    "secrets": ("name", "file"),
    "ulimits": ("soft", "hard"),
}


@settings(deadline=None, max_examples=examples(150))
@given(st.data())
def test_any_value_in_any_nested_field_is_taken_or_refused(data):
    parent = data.draw(st.sampled_from(sorted(nested)))
    inner = data.draw(st.dictionaries(st.sampled_from(nested[parent]), json_values, max_size=3))
    if parent == "strategy":
        inner["type"] = data.draw(st.sampled_from(["rolling", "blue_green", "canary", "recreate"]))
    wrapped = {"routes": [inner], "volumes": [inner], "secrets": [inner], "ulimits": {"nofile": inner}}
    text = yaml.safe_dump({"name": "a", "image": "b", "port": 1, parent: wrapped.get(parent, inner)})
    parsed = parse_file(text.encode(), "f.yaml")
    assert parsed.problems or parsed.documents[0].spec


@given(specs)
@settings(deadline=None, max_examples=examples(20))
def test_the_name_and_random_order_of_secret_versions_do_not_matter_to_a_container(spec):
    versions = [("B", 2), ("A", 1)]
    random.shuffle(versions)
    other = spec.model_copy(update={"name": "other"})
    assert digest_container(spec, "i", versions) == digest_container(other, "i", sorted(versions))
