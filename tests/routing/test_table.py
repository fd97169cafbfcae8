"""What goes over the feed comes out as it went in, also between neighbouring versions."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from controller.routing.entries import decode_table
from controller.routing.table import (
    FORMAT,
    AppRoutes,
    HeaderEdit,
    Policy,
    RateLimit,
    Redirect,
    Rule,
    Table,
    Upstream,
    decode_app,
    encode_app,
    encode_table,
)

FULL_POLICY = Policy(
    timeout_s=1.5,
    idle_s=7.0,
    body_limit_bytes=5,
    max_in_flight=3,
    https="only",
    hsts_s=60.0,
    sticky=True,
    assets=("/static", "/media"),
    request_headers=HeaderEdit(set=(("X-A", "1"),), remove=("X-B",)),
    response_headers=HeaderEdit(set=(("X-C", "2"), ("X-D", "3")), remove=("Server",)),
    basic_auth=("ann:{SHA}x",),
    allow=("10.0.0.0/8",),
    rate_limit=RateLimit(requests=10, per_s=2.0, burst=5),
    canonical_host="shop.example.com",
    redirects=(Redirect(source="/old", to="/new", code=308),),
    inspect=True,
    inspect_required=True,
    addons=("mask",),
)
FULL = AppRoutes(
    app="shop",
    rules=(
        Rule(host="shop.example.com", path="/a", strip=True, kept_for="blog"),
        Rule(host=None, group="preview", announced=True),
    ),
    waiting=(Rule(host="blog.example.com", path="/b"),),
    upstreams=(
        Upstream(id="c1", address="10.1.0.2", port=8000, release=3),
        Upstream(id="c2", address="10.1.0.3", port=8000, release=2, group="preview", state="draining", until=12.5),
    ),
    mode="maintenance",
    hold_s=5.0,
    message="back soon",
    weights=((2, 10), (3, 90)),
    policy=FULL_POLICY,
)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("routes", [FULL, AppRoutes(app="bare"), replace(FULL, policy=Policy())])
def test_an_entry_survives_the_feed(routes: AppRoutes) -> None:
    assert decode_app(through_json(encode_app(routes))) == routes


def test_every_field_of_the_full_entry_differs_from_its_default_so_none_is_forgotten() -> None:
    for value, default in ((replace(FULL, fault="x"), AppRoutes(app="")), (FULL_POLICY, Policy())):
        assert [f.name for f in fields(value) if getattr(value, f.name) == getattr(default, f.name)] == []


def test_defaults_are_not_sent() -> None:
    assert encode_app(AppRoutes(app="bare")) == {"app": "bare"}


def test_unknown_fields_of_a_newer_version_are_ignored() -> None:
    raw = through_json(encode_app(FULL))
    raw["colour"] = "red"
    raw["upstreams"][0]["zone"] = "b"
    assert decode_app(raw) == FULL


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (("policy",), "policy.deny"),
        (("policy", "rate_limit"), "policy.rate_limit.deny"),
        (("policy", "redirects", 0), "policy.redirects.deny"),
        (("policy", "request_headers"), "policy.request_headers.deny"),
        (("rules", 0), "rules.deny"),
    ],
)
def test_what_could_keep_somebody_out_and_is_not_understood_shuts_the_entry(place: tuple[Any, ...], name: str) -> None:
    raw = inner = through_json(encode_app(FULL))
    for step in place:
        inner = inner[step]
    inner["deny"] = ["192.0.2.0/24"]
    entry = decode_app(raw)
    assert entry.fault == f"{name}: this version does not know it"
    assert replace(entry, fault="") == FULL
    assert decode_app(through_json(encode_app(entry))).fault == entry.fault, "whoever it is handed on to keeps it shut"


def test_a_table_survives_the_snapshot() -> None:
    table = Table(version=9, apps={"shop": FULL}, sticky_key="k")
    assert decode_table(through_json(encode_table(table))) == table


def test_a_table_of_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed"):
        decode_table({"format": FORMAT + 1, "version": 1, "apps": {}})


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"app": "a", "upstreams": [1]},
        {"app": "a", "policy": 5},
        {"app": "a", "policy": []},
        {"app": "a", "policy": {"allow": {}}},
        {"app": "a", "policy": {"basic_auth": "ann:x"}},
        {"app": "a", "policy": {"rate_limit": []}},
        {"app": "a", "rules": 5},
        {"app": "a", "rules": [[]]},
    ],
)
def test_an_entry_that_cannot_be_read_is_a_value_error(raw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        decode_app(raw)
