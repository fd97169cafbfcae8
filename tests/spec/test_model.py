from __future__ import annotations

import pytest
from pydantic import ValidationError

from controller.spec.model import AppSpec, BlueGreen, Canary, CanaryStep, Health, Recreate, Rolling, Route, load_stored
from tests.spec.reading import spec_of


def test_the_defaults_are_those_of_the_contract():
    spec = spec_of("")
    assert (spec.replicas, spec.pull, spec.deadline, spec.drain, spec.stop_grace, spec.bake) == (
        1,
        "missing",
        120,
        30,
        10,
        0,
    )
    health = spec.health
    assert (health.interval, health.steady, health.timeout, health.passes, health.failures) == (1, 10, 2, 1, 3)
    assert (health.start_period, health.status, health.path, health.command) == (0, ((200, 399),), None, None)
    proxy = spec.proxy
    assert (proxy.timeout, proxy.idle, proxy.body_limit, proxy.max_in_flight) == (30, None, 100 * 1024**2, 1000)
    assert (proxy.https, proxy.hsts, proxy.sticky, proxy.inspect, proxy.rate_limit) == ("auto", 0, False, False, None)
    assert spec.strategy == Rolling(max_surge=1, max_unavailable=0)
    assert spec_of("strategy: blue_green").strategy == BlueGreen(promote="auto", promote_after=0, keep_old=30)
    assert spec_of("strategy: recreate").strategy == Recreate(hold=30)
    canary = spec_of("strategy: canary").strategy
    assert canary == Canary(steps=(CanaryStep(weight=10, hold=30), CanaryStep(weight=50, hold=30)))
    assert (canary.abort_on.error_rate, canary.abort_on.p95, canary.abort_on.min_requests) == (0.05, 2, 20)
    assert spec_of("before: {command: [x]}").before.timeout == 300
    assert Route() == Route(host=None, path="/", strip_path=False)
    assert spec_of("proxy: {rate_limit: {requests: 7}}").proxy.rate_limit.burst_count == 7


def test_a_strategy_is_a_word_or_a_mapping_with_a_type():
    assert spec_of("strategy: rolling") == spec_of("strategy: {type: rolling}") == spec_of("")
    assert spec_of("strategy: {type: rolling, max_surge: 25%}").strategy == Rolling(max_surge="25%")


def test_a_limit_of_a_canary_is_switched_off_by_null():
    assert spec_of("strategy: {type: canary, abort_on: {p95: null}}").strategy.abort_on.p95 is None
    assert spec_of("strategy: {type: canary, steps: [{weight: 5%}]}").strategy.steps[0].weight == 5


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "limits"),
    [
        (1, 0, 3, (1, 0)),
        ("25%", "25%", 10, (3, 2)),
        (0, "10%", 3, (0, 1)),
        (0, 5, 3, (0, 3)),
        ("100%", 0, 4, (4, 0)),
        (2, 1, 0, (2, 0)),
    ],
)
def test_surge_and_unavailable_as_counts_are_never_both_0(surge, unavailable, replicas, limits):
    assert Rolling(max_surge=surge, max_unavailable=unavailable).limits(replicas) == limits


def test_the_probe_s_host_is_its_own_else_the_first_exact_route_s_else_localhost():
    routes = "port: 1\nroutes: [{path: /a}, {host: '*.b.test'}, {host: c.test}]\n"
    assert spec_of(routes).probe_host == "c.test"
    assert spec_of(routes + "health: {host: d.test}").probe_host == "d.test"
    assert spec_of("").probe_host == "localhost"


def test_a_preview_alone_is_a_route_too():
    spec = spec_of("port: 1\nstrategy: {type: blue_green, preview_host: P.test}")
    assert spec.has_routes
    assert spec.preview_host == "p.test"
    assert not spec_of("port: 1").has_routes


def test_only_recreate_never_runs_two_releases():
    found = [spec_of(f"strategy: {word}").runs_two_releases for word in ("rolling", "blue_green", "canary", "recreate")]
    assert found == [True, True, True, False]


@pytest.mark.parametrize(
    ("written", "test"),
    [
        ("curl -f localhost", ("CMD-SHELL", "curl -f localhost")),
        ("[curl, -f, x]", ("CMD", "curl", "-f", "x")),
        ("[CMD, curl]", ("CMD", "curl")),
        ("[CMD-SHELL, curl x]", ("CMD-SHELL", "curl x")),
    ],
)
def test_a_health_command_is_what_the_engine_takes_as_healthcheck(written, test):
    assert spec_of(f"health: {{command: {written}}}").health.command == test


@pytest.mark.parametrize(
    ("written", "ranges"),
    [
        ("200", ((200, 200),)),
        ("200-299", ((200, 299),)),
        ("'200, 404'", ((200, 200), (404, 404))),
        ("[204, 301-302]", ((204, 204), (301, 302))),
    ],
)
def test_statuses_are_numbers_ranges_and_lists(written, ranges):
    health = spec_of(f"health: {{status: {written}}}").health
    assert health.status == ranges
    assert health.accepts(ranges[0][0])
    assert not health.accepts(500)


def test_a_spec_is_frozen():
    spec = spec_of("")
    with pytest.raises(ValidationError):
        spec.replicas = 5
    with pytest.raises(ValidationError):
        spec.health.path = "/x"


def test_code_may_hand_in_plain_numbers():
    spec = AppSpec(name="a", image="b", deadline=1.5, health=Health(interval=0.1), strategy=Recreate(hold=2))
    assert (spec.deadline, spec.health.interval, spec.strategy.hold) == (1.5, 0.1, 2)


def test_a_spec_stored_by_a_newer_version_loads_without_what_is_new():
    stored = spec_of("health: {path: /x}\nport: 1\nstrategy: blue_green").model_dump_json()
    newer = stored.replace('"name":', '"mystery":{"a":1},"name":').replace('"passes":', '"rounds":2,"passes":')
    newer = newer.replace('"promote":', '"ramp":[1],"promote":')
    assert load_stored(newer) == load_stored(stored)


def test_a_stored_spec_is_not_asked_again_what_it_was_asked_once():
    stored = spec_of("port: 1\nroutes: [{host: a.test}]").model_dump_json().replace('"port":1', '"port":null')
    assert load_stored(stored).routes
    with pytest.raises(ValidationError):
        AppSpec.model_validate_json(stored)


def test_what_is_no_stored_spec_is_an_error_that_can_be_caught():
    with pytest.raises(ValidationError):
        load_stored("{}")
    with pytest.raises(ValidationError):
        load_stored("not json")


@pytest.mark.parametrize(
    "line",
    [
        "ops:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC",
        "ops:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00",
        "ops:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
    ],
)
def test_a_line_of_htpasswd_is_taken(line):
    assert spec_of(f"proxy: {{basic_auth: ['{line}']}}").proxy.basic_auth == (line,)
