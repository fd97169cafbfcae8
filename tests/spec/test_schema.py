"""The schema that editors get says the same as the model."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from controller.spec.model import AppSpec
from controller.spec.parse import parse_file
from controller.spec.render import render_spec
from controller.spec.schema import render_schema
from controller.spec.starter import render_starter
from tests.spec.drawing import specs

SCHEMA = render_schema()


def faults(value, schema, at=""):
    """A small validator: the words of JSON Schema that ours uses, and no others."""
    known = {
        "$schema",
        "$defs",
        "title",
        "description",
        "default",
        "examples",
        "$ref",
        "anyOf",
        "oneOf",
        "discriminator",
        "type",
        "const",
        "enum",
        "pattern",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "properties",
        "additionalProperties",
        "patternProperties",
        "required",
        "items",
        "maxProperties",
        "minItems",
    }
    assert set(schema) <= known, set(schema) - known
    if "$ref" in schema:
        yield from faults(value, SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]], at)
    for word in ("anyOf", "oneOf"):
        if word in schema and all(list(faults(value, kind, at)) for kind in schema[word]):
            yield f"{at}: {value!r} is none of {word}"
    if "const" in schema and value != schema["const"]:
        yield f"{at}: not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} not in {schema['enum']}"
    if "type" in schema and not is_of(value, schema["type"]):
        yield f"{at}: {value!r} is no {schema['type']}"
        return
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{at}: {value!r} does not match"
    if isinstance(value, int | float) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and value > schema.get("exclusiveMinimum", value - 1)
    ):
        yield f"{at}: {value!r} out of bounds"
    if isinstance(value, dict):
        yield from faults_of_fields(value, schema, at)
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from faults(item, schema.get("items", {}), f"{at}[{index}]")


def faults_of_fields(value, schema, at):
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{at}.{name}: missing"
    for key, item in value.items():
        if key in schema.get("properties", {}):
            yield from faults(item, schema["properties"][key], f"{at}.{key}")
        elif any(re.search(pattern, str(key)) for pattern in schema.get("patternProperties", {})):
            pass
        elif schema.get("additionalProperties", True) is False:
            yield f"{at}.{key}: unknown"
        elif isinstance(schema.get("additionalProperties"), dict):
            yield from faults(item, schema["additionalProperties"], f"{at}.{key}")


def is_of(value, kinds):
    tests = {
        "string": lambda: isinstance(value, str),
        "integer": lambda: isinstance(value, int) and not isinstance(value, bool),
        "number": lambda: isinstance(value, int | float) and not isinstance(value, bool),
        "boolean": lambda: isinstance(value, bool),
        "null": lambda: value is None,
        "array": lambda: isinstance(value, list),
        "object": lambda: isinstance(value, dict),
    }
    return any(tests[kind]() for kind in ([kinds] if isinstance(kinds, str) else kinds))


CONTRACT = """
name: shop
image: shop:1.4.2
port: 8000
replicas: 2
command: [gunicorn, app]
environment: {LOG_LEVEL: info}
secrets: [DATABASE_URL, {name: CERT, file: true}]
volumes: ["data:/var/lib/shop", {name: X, external: true, target: /x}]
resources: {cpus: 0.5, memory: 256M, pids: 256}
pull: missing
routes:
  - host: shop.example.com
  - host: example.com
    path: /shop
    strip_path: true
health: {path: /healthz, interval: 1s, steady: 10s, timeout: 2s, passes: 1, failures: 3, start_period: 0s, status: 200-399}
strategy: rolling
deadline: 2m
drain: 30s
stop_grace: 10s
bake: 0s
before: {command: [./manage.py, migrate], timeout: 5m}
suspend: false
proxy:
  timeout: 30s
  body_limit: 100M
  max_in_flight: 1000
  https: auto
  hsts: 0s
  sticky: false
  assets: []
  headers: {request: {set: {}, remove: []}, response: {set: {}, remove: []}}
  basic_auth: []
  allow: []
  rate_limit: {requests: 100, per: 1s, burst: 100}
  canonical_host: null
  redirects: []
  inspect: false
  inspect_required: false
  addons: []
"""


def test_the_contract_s_own_example_is_good_and_passes_the_schema():
    (document,) = parse_file(CONTRACT.encode(), "f", not_yet=frozenset()).documents
    assert not document.problems
    assert not list(faults(yaml.safe_load(CONTRACT), SCHEMA))


def test_the_contract_s_strategies_are_good_and_pass_the_schema():
    for text in (
        "{type: rolling, max_surge: 25%, max_unavailable: 1}",
        "{type: blue_green, promote: manual, promote_after: 0s, keep_old: 30s, preview_host: p.test}",
        "{type: canary, steps: [{weight: 10, hold: 30s}, {weight: 50, hold: 30s}], abort_on: {error_rate: 5%, p95: 2s, min_requests: 20}}",
        "{type: recreate, hold: 30s}",
    ):
        whole = f"name: a\nimage: b\nport: 1\nstrategy: {text}\n"
        assert not parse_file(whole.encode(), "f", not_yet=frozenset()).problems
        assert not list(faults(yaml.safe_load(whole), SCHEMA))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(specs)
def test_every_good_spec_passes_the_schema(spec):
    assert not list(faults(yaml.safe_load(render_spec(spec)), SCHEMA))


@pytest.mark.parametrize(
    "bad",
    [
        "image: 5",
        "replicas: -1",
        "port: 70000",
        "deadline: fast",
        "strategi: rolling",
        "health: {pth: /}",
        "strategy: {type: rollin}",
        "strategy: {type: rolling, hold: 1s}",
        "pull: maybe",
        "proxy: {https: x}",
        "volumes: [5]",
        "environment: 5",
        "deadline: 30",
    ],
)
def test_the_schema_refuses_what_the_parser_refuses(bad):
    text = f"name: a\n{'' if bad.startswith('image') else 'image: b'}\n{bad}\n"
    assert parse_file(text.encode(), "f").problems
    assert list(faults(yaml.safe_load(text), SCHEMA))


def test_the_starter_is_good_without_a_warning_and_passes_the_schema():
    text = render_starter("my-shop")
    parsed = parse_file(text.encode(), "f")
    assert not parsed.problems
    assert not parsed.warnings
    assert parsed.documents[0].name == "my-shop"
    assert not list(faults(yaml.safe_load(text), SCHEMA))


@pytest.mark.parametrize("name", ["a", "my-shop", "a-name-of-twenty-one-x"])
def test_the_comments_of_the_starter_stand_below_each_other(name: str):
    found = [re.match(r"(.*\S)( {2,})# ", line) for line in render_starter(name).splitlines()]
    columns = [line.end() for line in found if line is not None and len(line[1]) < 34]
    assert len(columns) >= 12
    assert set(columns) == {37}


def test_what_the_starter_has_commented_out_is_good_too():
    lines = [
        re.sub(r"^(\s*)# ((?:- )?[a-z_]+:|  [a-z_]+:)", r"\1\2", line) for line in render_starter("shop").splitlines()
    ]
    parsed = parse_file("\n".join(lines).encode(), "f")
    assert not parsed.problems, [problem.text for problem in parsed.problems]
    assert parsed.documents[0].spec.before is not None
    assert parsed.documents[0].spec.volumes


def test_every_field_has_a_description_and_the_schema_is_plain_json():
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert set(SCHEMA["properties"]) == {*AppSpec.model_fields, "env_file"}
    for kind in (SCHEMA, *SCHEMA["$defs"].values()):
        for name, field in kind["properties"].items():
            assert name == "type" or field.get("description"), (kind["title"], name)


def test_defaults_are_written_as_a_file_would_have_them():
    assert SCHEMA["properties"]["deadline"]["default"] == "2m"
    assert SCHEMA["$defs"]["Proxy"]["properties"]["body_limit"]["default"] == "100M"
    assert SCHEMA["$defs"]["Health"]["properties"]["status"]["default"] == "200-399"
