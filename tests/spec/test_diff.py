from __future__ import annotations

from controller.spec.diff import diff_specs
from tests.spec.reading import spec_of


def lines(old, new):
    return [
        f"{change.text}{' *' if change.replaces else ''}" for change in diff_specs(old and spec_of(old), spec_of(new))
    ]


def test_a_diff_is_field_by_field_as_people_write_it():
    old = "port: 8000\nreplicas: 1\nenvironment: {A: x, B: y}\nresources: {memory: 128M}\nhealth: {interval: 1s}\nlabels: {k: v}"
    new = "port: 8000\nreplicas: 3\nimage: shop:2\nenvironment: {A: z, C: '1'}\nresources: {memory: 256M, cpus: 2}\nhealth: {interval: 1m30s, command: [curl, x]}\nproxy: {body_limit: 10M}\nname: shop"
    assert lines(old, new) == [
        "image: shop:1 -> shop:2 *",
        "replicas: 1 -> 3",
        "labels.k: v -> (none) *",
        "environment.A: x -> z *",
        "environment.B: y -> (none) *",
        'environment.C: "1" *',
        "resources.cpus: 2 *",
        "resources.memory: 128M -> 256M *",
        "health.interval: 1s -> 1m30s",
        "health.command: [curl, x] *",
        "proxy.body_limit: 100M -> 10M",
    ]


def test_equal_specs_have_no_differences():
    assert lines("replicas: 2", "replicas: 2") == []


def test_lists_and_strategies_are_shown_whole_on_one_line():
    assert lines(
        "port: 1\nroutes: [{host: a.test}]",
        "port: 1\nroutes: [{host: a.test}, {host: b.test, path: /x}]\nstrategy: {type: blue_green, keep_old: 1m}",
    ) == [
        "routes: [{host: a.test}] -> [{host: a.test}, {host: b.test, path: /x}]",
        "strategy: rolling -> {type: blue_green, keep_old: 1m}",
    ]
    assert lines("strategy: {type: rolling}", "strategy: {type: rolling, max_surge: 50%}") == [
        "strategy.max_surge: 1 -> 50%"
    ]


def test_a_new_app_shows_what_it_sets():
    assert lines(None, "port: 1\nreplicas: 2") == ["image: shop:1 *", "port: 1 *", "replicas: 2"]


def test_a_value_that_is_unset_differs_from_one_that_is_absent():
    assert lines("environment: {A: }", "environment: {B: ''}") == [
        "environment.A: null -> (none) *",
        'environment.B: "" *',
    ]
