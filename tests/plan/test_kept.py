"""A change that needs no new container is a release that can fail: what has to hold before it is live, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from controller.plan.picture import Picture
from controller.plan.probing import judge_of, trial_id
from controller.routing.build import build_policy, build_rules
from controller.spec.digest import digest_container
from controller.spec.model import CONTAINER_FIELDS, AppSpec
from tests.builders import a_spec
from tests.plan.outside import Outside, an_outside

PAGE = Path(__file__).parents[2] / "docs" / "rollouts.md"
LOGIN = "kim:$2b$04$abcdefghijklmnopqrstuuJ0V2mCXoHMRPqn7bUYlXlXh3cQ1uXm6"
ROUTE = {"host": "shop.example.com"}
BASE: dict[str, Any] = {"replicas": 2, "deadline": "20s", "image": "shop:1"}

ASKED: dict[str, dict[str, Any]] = {
    "health.path": {"health": {"path": "/up"}},
    "health.interval": {"health": {"interval": "2s"}},
    "health.steady": {"health": {"steady": "20s"}},
    "health.timeout": {"health": {"timeout": "3s"}},
    "health.passes": {"health": {"passes": 2}},
    "health.failures": {"health": {"failures": 4}},
    "health.start_period": {"health": {"start_period": "1s"}},
    "health.status": {"health": {"status": 200}},
    "health.host": {"health": {"host": "other.example.com"}},
    "health.headers": {"health": {"headers": {"X-Probe": "1"}}},
    "routes.host": {"routes": [{"host": "new.example.com"}]},
    "proxy.https": {"proxy": {"https": "redirect"}},
}
"""How readiness is asked: each kept replica has to pass the new check before the release is live."""

TABLED: dict[str, dict[str, Any]] = {
    "routes.path": {"routes": [{**ROUTE, "path": "/shop"}]},
    "routes.strip_path": {"routes": [{**ROUTE, "path": "/", "strip_path": True}]},
    "proxy.timeout": {"proxy": {"timeout": "31s"}},
    "proxy.idle": {"proxy": {"idle": "6m"}},
    "proxy.body_limit": {"proxy": {"body_limit": "1M"}},
    "proxy.max_in_flight": {"proxy": {"max_in_flight": 10}},
    "proxy.hsts": {"proxy": {"hsts": "1h"}},
    "proxy.sticky": {"proxy": {"sticky": True}},
    "proxy.assets": {"proxy": {"assets": ["/static"]}},
    "proxy.headers.request.set": {"proxy": {"headers": {"request": {"set": {"X-A": "1"}}}}},
    "proxy.headers.request.remove": {"proxy": {"headers": {"request": {"remove": ["X-A"]}}}},
    "proxy.headers.response.set": {"proxy": {"headers": {"response": {"set": {"X-A": "1"}}}}},
    "proxy.headers.response.remove": {"proxy": {"headers": {"response": {"remove": ["X-A"]}}}},
    "proxy.basic_auth": {"proxy": {"basic_auth": [LOGIN]}},
    "proxy.allow": {"proxy": {"allow": ["10.0.0.0/8"]}},
    "proxy.rate_limit.requests": {"proxy": {"rate_limit": {"requests": 10}}},
    "proxy.rate_limit.per": {"proxy": {"rate_limit": {"requests": 10, "per": "2s"}}},
    "proxy.rate_limit.burst": {"proxy": {"rate_limit": {"requests": 10, "burst": 5}}},
    "proxy.canonical_host": {"proxy": {"canonical_host": "shop.example.com"}},
    "proxy.redirects.source": {"proxy": {"redirects": [{"from": "/old", "to": "/new"}]}},
    "proxy.redirects.to": {"proxy": {"redirects": [{"from": "/old", "to": "/newer"}]}},
    "proxy.redirects.code": {"proxy": {"redirects": [{"from": "/old", "to": "/new", "code": 308}]}},
    "proxy.inspect": {"proxy": {"inspect": True}},
    "proxy.inspect_required": {"proxy": {"inspect": True, "inspect_required": True}},
    "proxy.addons": {"proxy": {"inspect": True, "addons": ["mine"]}},
    "strategy.blue_green.preview_host": {"strategy": {"type": "blue_green", "preview_host": "next.example.com"}},
}
"""What the workers do with requests: every worker has to confirm the table, or it is refused and never served."""

COUNTED: dict[str, dict[str, Any]] = {"replicas": {"replicas": 3}}
"""How many: all of them have to be ready, each by its deadline."""

RUN: dict[str, dict[str, Any]] = {
    "before.command": {"before": {"command": "migrate"}},
    "before.timeout": {"before": {"command": "migrate", "timeout": "1m"}},
}
"""What runs once: it has to succeed."""

ACCEPTED: dict[str, dict[str, Any]] = {
    "pull": {"pull": "never"},
    "deadline": {"deadline": "30s"},
    "drain": {"drain": "10s"},
    "stop_grace": {"stop_grace": "5s"},
    "bake": {"bake": "5s"},
    "strategy.rolling.type": {"strategy": {"type": "rolling", "max_surge": 3}},
    "strategy.rolling.max_surge": {"strategy": {"type": "rolling", "max_surge": 2}},
    "strategy.rolling.max_unavailable": {"strategy": {"type": "rolling", "max_unavailable": 1}},
    "strategy.blue_green.type": {"strategy": "blue_green"},
    "strategy.blue_green.promote": {"strategy": {"type": "blue_green", "promote": "manual"}},
    "strategy.blue_green.promote_after": {"strategy": {"type": "blue_green", "promote_after": "1m"}},
    "strategy.blue_green.keep_old": {"strategy": {"type": "blue_green", "keep_old": "1m"}},
    "strategy.canary.type": {"strategy": "canary"},
    "strategy.canary.steps.weight": {"strategy": {"type": "canary", "steps": [{"weight": 5}]}},
    "strategy.canary.steps.hold": {"strategy": {"type": "canary", "steps": [{"weight": 10, "hold": "1s"}]}},
    "strategy.canary.abort_on.error_rate": {"strategy": {"type": "canary", "abort_on": {"error_rate": "1%"}}},
    "strategy.canary.abort_on.p95": {"strategy": {"type": "canary", "abort_on": {"p95": "1s"}}},
    "strategy.canary.abort_on.min_requests": {"strategy": {"type": "canary", "abort_on": {"min_requests": 5}}},
    "strategy.recreate.type": {"strategy": "recreate"},
    "strategy.recreate.hold": {"strategy": {"type": "recreate", "hold": "9s"}},
}
"""What only the next rollout goes by: a value that is allowed is all there is to it."""

ELSEWHERE = frozenset({"name", "suspend", "health.command"})
"""Another name is another app; a suspended app has no rollouts; a health command is baked into containers."""


def leaves(model: type[BaseModel], at: str = "") -> Iterator[str]:
    """Yield every field below *model* that holds no further part, as a path; one part of a union is named by its type."""
    for name, info in model.model_fields.items():
        parts = list(dict.fromkeys(parts_of(info.annotation)))
        for part in parts:
            kind = f".{part.model_fields['type'].default}" if len(parts) > 1 else ""
            yield from leaves(part, f"{at}{name}{kind}.")
        if not parts:
            yield f"{at}{name}"


def parts_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from parts_of(inner)


def test_every_field_that_replaces_no_container_has_a_row_here() -> None:
    fields = {leaf for leaf in leaves(AppSpec) if leaf.partition(".")[0] not in CONTAINER_FIELDS}
    rows = [*ASKED, *TABLED, *COUNTED, *RUN, *ACCEPTED, *ELSEWHERE]
    assert len(rows) == len(set(rows))
    assert set(rows) == fields, "say what 'it works' means for a new field, here and in docs/rollouts.md"


def test_the_page_names_every_field_that_can_fail_so() -> None:
    _, _, after = PAGE.read_text().partition("## A change that needs no new container")
    section = after.partition("\n## ")[0]
    for row in (*ASKED, *TABLED, *COUNTED, *RUN, *ACCEPTED):
        assert f"`{row.partition('.')[0]}" in section, row


def a_change(change: Mapping[str, Any]) -> tuple[Outside, set[str]]:
    """Return an app at rest whose file asks for *change*, and the containers that it has."""
    outside = an_outside(**BASE)
    outside.ask(a_spec(**{**BASE, **change}))
    return outside, {r.id for r in outside.replicas}


def forward(outside: Outside, passes: int = 30, *deaf: str) -> None:
    """Make passes, with everything outside reacting but for *deaf*."""
    for _ in range(passes):
        outside.pass_once()
        for name in ("confirm", "drain", "run_on", "probe"):
            if name not in deaf:
                getattr(outside, name)()
        outside.pass_time(0.05)


def release_at(outside: Outside, number: int) -> str:
    return outside.situation.releases[number].outcome


def keeps_the_first(outside: Outside, ids: set[str]) -> None:
    """Check that release 2 failed for good, and that release 1 serves with the containers that it had."""
    outside.settle_down()
    assert (outside.situation.memory.live, release_at(outside, 1), release_at(outside, 2)) == (1, "live", "failed")
    assert {r.id for r in outside.replicas} == ids
    routes = outside.situation.world.routing.confirmed
    live = outside.situation.releases[1].spec
    assert routes is not None
    assert (routes.rules, routes.policy) == (build_rules(live), build_policy(live.proxy))
    assert sum(u.state == "ready" for u in routes.upstreams) == 2
    p = Picture(outside.situation)
    assert {judge.number for r in outside.replicas if (judge := judge_of(p, r))} == {1}
    outside.restart_controller()
    outside.pass_time(3600)
    outside.settle_down()
    assert outside.situation.memory.last_release == 2, "the file is not followed"


@pytest.mark.parametrize("field", [*ASKED, *TABLED, *COUNTED, *RUN, *ACCEPTED])
def test_where_all_is_well_it_is_live_with_the_same_containers(field: str) -> None:
    change = (ASKED | TABLED | COUNTED | RUN | ACCEPTED)[field]
    spec = a_spec(**{**BASE, **change})
    assert digest_container(spec, "sha256:shop:1") == digest_container(a_spec(**BASE), "sha256:shop:1")
    outside, ids = a_change(change)
    outside.settle_down()
    outside.check_rest()
    assert release_at(outside, 2) == "live"
    assert ids <= {r.id for r in outside.replicas}


@pytest.mark.parametrize("field", ASKED)
def test_how_readiness_is_asked_is_live_only_once_each_kept_replica_has_passed(field: str) -> None:
    outside, _ = a_change(ASKED[field])
    forward(outside, 30, "probe")
    look_again_s = outside.pass_once().look_again_s
    assert look_again_s is not None
    assert look_again_s < 0.1, "the next look has it asked"
    assert release_at(outside, 2) == "rolling_out"
    assert outside.situation.memory.live == 1
    rollout = outside.situation.memory.rollout
    assert rollout is not None
    assert rollout.waits_for == "0 of 2 replicas passed the new readiness check"
    outside.probe()
    one = trial_id(outside.replicas[0], outside.situation.releases[2])
    outside.forget(one)
    forward(outside, 10, "probe")
    assert outside.situation.memory.live == 1, "one of two is not enough"
    outside.settle_down()
    assert release_at(outside, 2) == "live"


@pytest.mark.parametrize("strategy", ["rolling", "blue_green", "canary", "recreate"])
@pytest.mark.parametrize("more", [{}, {"replicas": 1}, {"replicas": 3}, {"proxy": {"timeout": "9s"}}])
def test_a_readiness_check_that_never_passes_fails_at_the_deadline_and_the_old_one_decides_on(
    strategy: str, more: dict[str, Any]
) -> None:
    outside = an_outside(**BASE, strategy=strategy)
    ids = {r.id for r in outside.replicas}
    outside.ask(a_spec(**{**BASE, "strategy": strategy, "health": {"path": "/bad"}, **more}))
    while outside.situation.memory.rollout is not None or outside.situation.memory.failed is None:
        forward(outside, 1)
        routes = outside.situation.world.routing.published
        assert routes is not None
        assert sum(u.state == "ready" for u in routes.upstreams) >= 2
        outside.pass_time(1)
    message = outside.situation.releases[2].message
    assert "did not pass the new readiness check within 20 s: GET /bad: 503" in message or "was not ready" in message
    keeps_the_first(outside, ids)


def test_a_check_that_passes_is_what_counts_even_where_the_old_one_never_did() -> None:
    outside = an_outside(**BASE)
    outside.ask(a_spec(**{**BASE, "health": {"path": "/up"}}))
    outside.settle_down()
    releases = outside.situation.releases
    wrong = releases[2].spec.model_copy(update={"health": a_spec(health={"path": "/bad"}).health})
    outside.rewrite(2, wrong)
    outside.settle_down(most=5)
    ids = {r.id for r in outside.replicas}
    outside.ask(a_spec(**{**BASE, "health": {"path": "/alive"}}))
    outside.settle_down()
    outside.check_rest()
    assert release_at(outside, 3) == "live"
    assert ids == {r.id for r in outside.replicas}


@pytest.mark.parametrize("field", TABLED)
def test_what_the_workers_do_is_live_only_once_they_all_confirmed_it(field: str) -> None:
    outside, _ = a_change(TABLED[field])
    forward(outside, 30, "confirm")
    assert (release_at(outside, 2), outside.situation.memory.live) == ("rolling_out", 1)
    outside.settle_down()
    assert release_at(outside, 2) == "live"


@pytest.mark.parametrize("field", TABLED)
def test_a_table_that_no_worker_can_take_fails_the_release_with_the_reason(field: str) -> None:
    outside, ids = a_change(TABLED[field])
    live = outside.situation.releases[1].spec
    outside.refuses = lambda routes: (routes.rules, routes.policy) != (build_rules(live), build_policy(live.proxy))
    keeps_the_first(outside, ids)
    assert "the workers cannot take this table" in outside.situation.releases[2].message


def test_a_table_of_what_serves_that_no_worker_can_take_any_more_is_not_the_newcomers_fault() -> None:
    outside = an_outside(**BASE, proxy={"timeout": "8s"})
    outside.refuses = lambda routes: routes.policy.timeout_s == 8
    outside.change(outside.replicas[0], state="exited", exit_code=1)
    outside.ask(a_spec(**BASE))
    forward(outside, 60)
    assert release_at(outside, 2) == "rolling_out"
    outside.refuses = lambda _routes: False
    outside.settle_down()
    outside.check_rest()
    assert release_at(outside, 2) == "live"


def test_more_replicas_that_never_get_ready_go_back_to_the_old_number() -> None:
    outside, ids = a_change(COUNTED["replicas"])
    outside.stillborn = True
    outside.settle_down()
    keeps_the_first(outside, ids)


@pytest.mark.parametrize("field", RUN)
def test_a_before_that_fails_leaves_what_serves_as_it_is(field: str) -> None:
    outside = an_outside(**{**BASE, "image": "unmigratable:1"})
    ids = {r.id for r in outside.replicas}
    outside.ask(a_spec(**{**BASE, "image": "unmigratable:1", **RUN[field]}))
    keeps_the_first(outside, ids)
