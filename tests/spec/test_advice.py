from __future__ import annotations

from tests.spec.reading import warnings_of


def test_a_volume_that_two_releases_would_write_is_doubtful():
    (warning,) = warnings_of("volumes: ['data:/x', 'conf:/y:ro', /z]")
    assert warning.startswith("1: volumes[0]: two releases write to data at once with strategy rolling")
    assert warnings_of("volumes: ['data:/x']\nstrategy: blue_green")
    assert not warnings_of("volumes: ['data:/x']\nstrategy: recreate")


def test_a_before_that_may_outlast_the_hold_is_doubtful():
    (warning,) = warnings_of("strategy: recreate\nbefore:\n  command: x\n  timeout: 1m\n")
    assert warning.startswith("4: before.timeout: 1m is longer than hold (30s)")
    assert not warnings_of("strategy: {type: recreate, hold: 2m}\nbefore: {command: x, timeout: 1m}")
    assert not warnings_of("before: {command: x}")


def test_a_variable_without_a_value_is_doubtful():
    (warning,) = warnings_of("environment:\n  A: x\n  B:\n")
    assert warning == '3: environment.B: has no value and is unset in the container; for an empty one write ""'


def test_other_things_that_are_probably_not_meant():
    assert "health.path: is not asked" in warnings_of("port: 1\nhealth: {path: /x, command: y}")[0]
    assert (
        "health.start_period: is not shorter than deadline (10s)"
        in warnings_of("deadline: 10s\nhealth: {start_period: 10s}")[0]
    )
    assert (
        "no route of this app has the host b.test"
        in warnings_of("port: 1\nroutes: [{host: a.test}]\nproxy: {canonical_host: b.test}")[0]
    )
    assert not warnings_of("port: 1\nroutes: [{path: /}]\nproxy: {canonical_host: b.test}")


def test_an_ordinary_spec_has_no_warnings():
    assert not warnings_of("port: 8000\nroutes: [{host: a.test}]\nhealth: {path: /}\nbefore: {command: x}\n")
