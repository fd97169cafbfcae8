"""Any spec that validates can be taken by a worker, alone and beside others, and each of its answers can be written."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError

from controller.proxy.answers import render_answer
from controller.proxy.core import Core, Limits
from controller.proxy.doors import Waiting
from controller.publisher import Publisher
from controller.routing.build import build_routes
from controller.routing.table import AppRoutes, Rule, Table, Upstream
from controller.spec.model import AppSpec
from tests.parts.effort import examples
from tests.spec import drawing, hostile

relaxed = settings(
    deadline=None,
    max_examples=examples(50),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
UPSTREAM = Upstream(id="one", address="127.0.0.1", port=1, release=1)
NEIGHBOURS = (
    AppRoutes(app="aardvark", rules=(Rule(host="aardvark.test"),), upstreams=(UPSTREAM,)),
    AppRoutes(app="zebra", rules=(Rule(host="zebra.test"),), upstreams=(UPSTREAM,)),
)


class Asking:
    """A request at the door."""

    checked = False
    rated = False

    def __init__(self, host: str, target: str, method: bytes) -> None:
        self.host, self.target, self.method = host, target.encode("latin-1"), method

    def client_address(self) -> str:
        return "192.0.2.1"

    def is_secure(self) -> bool:
        return False

    def host_name(self) -> str:
        return self.host

    def authorization(self) -> bytes:
        return b"Basic YW5uOng="


def prune(raw: dict[str, Any]) -> dict[str, Any]:
    """Return *raw* without what does not validate: what is left is as hostile as it may be."""
    raw = deepcopy(raw)
    for _ in range(100):
        try:
            AppSpec.model_validate(raw)
        except ValidationError as error:
            for detail in error.errors():
                faults = detail.get("ctx", {}).get("faults", ())
                for place in [(*detail["loc"], *fault.at) for fault in faults] or [detail["loc"]]:
                    remove(raw, place)
        else:
            return raw
    raise AssertionError(f"does not come to rest: {raw}")


def remove(raw: Any, place: tuple[str | int, ...]) -> None:
    """Remove the deepest thing of *raw* that *place* leads to and that can go."""
    trail: list[tuple[Any, str | int]] = []
    here = raw
    for step in place:
        key = "to" if step not in here and step in ("source", "from") and isinstance(here, dict) else step
        if not isinstance(here, dict | list) or (isinstance(here, dict) and key not in here):
            break
        if isinstance(here, list) and not (isinstance(key, int) and key < len(here)):
            break
        trail.append((here, key))
        here = here[key]
    for parent, key in reversed(trail):
        if key not in ("name", "image", "port", "type", "from", "to", "requests"):
            del parent[key]
            return


def questions(routes: AppRoutes) -> Iterator[Asking]:
    hosts = {rule.host.replace("*", "www") for rule in routes.rules if rule.host} | {"other.test"}
    targets = {rule.path for rule in routes.rules} | {"/"}
    for redirect in routes.policy.redirects:
        scheme, _, rest = redirect.source.partition("://")
        host, _, path = rest.partition("/") if rest else ("", "", scheme.removeprefix("/"))
        hosts |= {host.partition(":")[0]} - {""}
        targets |= {f"/{path}"} if path.isascii() else set()
    for host in sorted(hosts):
        for target in sorted(targets):
            for query in ("", "?q=%0d%0a"):
                yield Asking(host, target + query, b"GET")
                yield Asking(host, target + query, b"POST")


def ask_everything(core: Core, routes: AppRoutes) -> None:
    door = core.live.apps[routes.app].door
    for asking in questions(routes):
        try:
            refusal = door.check(asking, 1.0)
        except Waiting:
            continue
        if refusal is not None:
            assert refusal.status != 503
            head = render_answer(refusal.status, "id", headers=refusal.headers).partition(b"\r\n\r\n")[0]
            lines = head.split(b"\r\n")
            assert len(lines) == 6 + len(refusal.headers)
            assert all(32 <= byte < 127 for line in lines for byte in line), head


def take_beside_others(raw: dict[str, Any], publisher: Publisher) -> None:
    spec = AppSpec.model_validate(raw)
    routes = build_routes(spec, (UPSTREAM,))
    assert routes is not None
    publisher.publish(routes.app, routes)
    reports: list[Any] = []
    core = Core(Limits(), reports.append)
    published = publisher.table().apps[routes.app]
    for version, apps in enumerate(((published,), (*NEIGHBOURS, published), NEIGHBOURS, (published, *NEIGHBOURS)), 1):
        assert not core.take(Table(version=version, apps={one.app: one for one in apps}))
        assert core.live.table.version == version
        if published in apps:
            ask_everything(core, published)
        for neighbour in apps:
            if neighbour in NEIGHBOURS:
                found = core.live.find(f"{neighbour.app}.test", b"/")
                assert found is not None
                if found.app == neighbour.app:  # else the drawn spec has this host, too
                    assert core.live.apps[neighbour.app].pick("live") is not None
    publisher.publish(routes.app, None)


@pytest.fixture
def publisher(tmp_path: Any) -> Publisher:
    return Publisher(tmp_path, ring=lambda _: None)


@relaxed
@given(raw=hostile.raw_specs)
def test_a_hostile_spec_that_validates_is_taken_and_harms_nobody(raw: dict[str, Any], publisher: Publisher) -> None:
    take_beside_others(prune(raw), publisher)


@relaxed
@given(raw=drawing.raw_specs)
def test_any_spec_that_validates_is_taken(raw: dict[str, Any], publisher: Publisher) -> None:
    take_beside_others({**raw, "routes": raw.get("routes") or [{}]}, publisher)


@pytest.mark.parametrize(
    ("proxy", "place"),
    [
        ({"redirects": [{"from": "http://[shop/old", "to": "/new"}]}, "proxy.redirects.0.from"),
        ({"redirects": [{"from": "/old", "to": "https://[::1"}]}, "proxy.redirects.0.to"),
        ({"redirects": [{"from": "//shop/old", "to": "/new"}]}, "proxy.redirects.0.from"),
        ({"redirects": [{"from": "/old?page=1", "to": "/new"}]}, "proxy.redirects.0.from"),
        ({"redirects": [{"from": "/old", "to": "/new\x1b"}]}, "proxy.redirects.0.to"),
        ({"rate_limit": {"requests": 10**400}}, "proxy.rate_limit.requests"),
        ({"rate_limit": {"requests": 1, "burst": 10**400}}, "proxy.rate_limit.burst"),
        ({"basic_auth": [f"ann:$2y$31${hostile.HASH}"]}, "proxy.basic_auth.0"),
        ({"basic_auth": [f"ann:$2y$03${hostile.HASH}"]}, "proxy.basic_auth.0"),
    ],
)
def test_what_a_worker_could_not_serve_does_not_validate(proxy: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as raised:
        AppSpec.model_validate({"name": "shop", "image": "shop:1", "port": 1, "routes": [{}], "proxy": proxy})
    places = [
        ".".join(map(str, (*detail["loc"], *fault.at)))
        for detail in raised.value.errors()
        for fault in detail["ctx"]["faults"]
    ]
    assert places == [place]
    assert hostile.HASH not in str(raised.value)
