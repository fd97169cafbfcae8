"""Routes of a release that does not serve yet take no request from what serves: law 2, request by request."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.plan.picture import Picture
from controller.routing.build import build_routes
from controller.routing.match import Match, compile_table
from controller.routing.table import AppRoutes, Table
from controller.spec.model import AppSpec
from tests.builders import a_spec
from tests.parts.effort import examples
from tests.plan.outside import Outside, an_outside

HOSTS = ("shop.test", "www.shop.test", "next.shop.test", "other.test")
PATHS = ("/", "/api", "/api/v2", "/apis")
STRATEGIES = (
    "rolling",
    "recreate",
    "blue_green",
    {"type": "blue_green", "promote": "manual"},
    {"type": "blue_green", "promote": "manual", "preview_host": "next.shop.test"},
    {"type": "canary", "steps": [{"weight": 50, "hold": "1s"}]},
)


def whose(routes: AppRoutes | None, host: str, path: str) -> Match | None:
    return compile_table(Table(apps={"shop": routes} if routes else {})).find(host, path)


def check_requests(outside: Outside) -> None:
    """Each request that the live release's rules match goes there, whatever else is on its way."""
    p, published = Picture(outside.situation), outside.situation.world.routing.published
    rollout = p.s.memory.rollout
    if p.live is None or (rollout is not None and rollout.phase == "switching"):
        return
    rules = build_routes(p.live.spec, ())
    green = [u for u in published.upstreams if u.group == "preview"] if published else []
    for host in HOSTS:
        for path in PATHS:
            meant = whose(rules, host, path)
            found = whose(published, host, path)
            if meant is None or (green and found and found.rule.host == "next.shop.test"):
                continue
            assert (found and found.rule) == meant.rule, f"{host}{path}: {found} and not {meant}"


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize(
    ("served", "announced", "request_"),
    [
        ({"host": "shop.test"}, {"host": "shop.test", "path": "/api"}, ("shop.test", "/api/x")),
        ({"host": "*.shop.test"}, {"host": "www.shop.test"}, ("www.shop.test", "/")),
        ({"path": "/"}, {"host": "shop.test", "path": "/api"}, ("shop.test", "/api")),
        ({"host": "*.shop.test"}, {"host": "www.shop.test", "path": "/api"}, ("www.shop.test", "/api")),
    ],
)
def test_a_more_specific_route_of_a_newer_release_takes_nothing_before_the_switch(
    strategy: object, served: dict[str, str], announced: dict[str, str], request_: tuple[str, str]
) -> None:
    outside = an_outside(routes=[served], replicas=2)
    outside.ask(a_spec(image="bad:1", routes=[served, announced], replicas=2, strategy=strategy, deadline="20s"))
    for _ in range(12):
        outside.pass_once()
        outside.react()
        check_requests(outside)
        found = whose(outside.situation.world.routing.published, *request_)
        assert found is not None
        assert not found.rule.announced
        assert found.rule.path != "/api"


def test_an_announced_route_exists_and_waits_for_its_release() -> None:
    outside = an_outside(routes=[{"host": "shop.test"}])
    manual = {"type": "blue_green", "promote": "manual", "preview_host": "next.shop.test"}
    outside.ask(a_spec(image="good:2", routes=[{"host": "shop.test"}, {"host": "new.test"}], strategy=manual))
    outside.settle_down()
    published = outside.situation.world.routing.published
    found = whose(published, "new.test", "/")
    assert found is not None
    assert found.rule.announced, "503 until the promotion, and never green"
    shown = whose(published, "next.shop.test", "/")
    assert shown is not None
    assert not shown.rule.announced
    assert shown.rule.group == "preview"
    outside.order("promote")
    outside.settle_down()
    found = whose(outside.situation.world.routing.published, "new.test", "/")
    assert found is not None
    assert not found.rule.announced


def test_a_preview_host_under_a_served_wildcard_takes_nothing_before_green_is_ready() -> None:
    outside = an_outside(routes=[{"host": "*.shop.test"}])
    manual = {"type": "blue_green", "promote": "manual", "preview_host": "next.shop.test"}
    outside.ask(a_spec(image="bad:1", routes=[{"host": "*.shop.test"}], strategy=manual, deadline="20s"))
    for _ in range(8):
        outside.pass_once()
        outside.react()
        found = whose(outside.situation.world.routing.published, "next.shop.test", "/")
        assert found is not None
        assert found.rule.host == "*.shop.test"


def routed_specs() -> st.SearchStrategy[AppSpec]:
    route = st.builds(
        lambda host, path: {"path": path} | ({"host": host} if host else {}),
        st.sampled_from((*HOSTS[:2], "*.shop.test", "")),
        st.sampled_from(PATHS),
    )
    return st.builds(
        lambda routes, image, replicas, strategy: a_spec(
            routes=list({(r.get("host"), r["path"]): r for r in routes}.values()),
            image=image,
            replicas=replicas,
            strategy=strategy,
            deadline="20s",
        ),
        st.lists(route, min_size=1, max_size=3),
        st.sampled_from(("good:1", "good:2", "bad:1", "dies:1", "late:1")),
        st.integers(1, 2),
        st.sampled_from(STRATEGIES),
    )


@pytest.mark.fuzz
@settings(max_examples=examples(60), deadline=None)
@given(routed_specs(), st.lists(st.tuples(routed_specs(), st.integers(1, 12)), min_size=1, max_size=3))
def test_whatever_is_announced_the_live_rules_keep_their_requests(
    first: AppSpec, wishes: list[tuple[AppSpec, int]]
) -> None:
    outside = Outside()
    outside.ask(first.model_copy(update={"image": "good:0"}))
    outside.settle_down()
    for wish, passes in wishes:
        outside.ask(wish)
        for _ in range(passes):
            outside.pass_once()
            outside.react()
            outside.pass_time(0.1)
            check_requests(outside)
    outside.settle_down()
    outside.check_rest()
