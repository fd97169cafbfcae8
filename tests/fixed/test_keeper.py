"""Fixed entries of the table: there while they are asked for, ready while their target is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from controller.errors import Refused
from controller.fixed import Fence, Keeper
from controller.fixed.own import api_entry
from controller.plan.claims import Claim
from controller.plan.situation import Heir
from controller.ports import Target
from controller.routing.table import AppRoutes, Rule
from controller.settings import load_settings
from controller.store.fixed import FixedRoute
from controller.world.model import Verdict
from tests.loop.house import MovingClock, PromptPublisher


class Book:
    def __init__(self) -> None:
        self.routes: dict[str, FixedRoute] = {}

    def list(self) -> tuple[FixedRoute, ...]:
        return tuple(self.routes[name] for name in sorted(self.routes))

    def save(self, route: FixedRoute) -> None:
        self.routes[route.name] = route

    def remove(self, name: str) -> None:
        del self.routes[name]


class Prober:
    def __init__(self) -> None:
        self.watched: dict[str, tuple[Target, ...]] = {}
        self.sick = False

    def watch(self, app: str, targets: Collection[Target]) -> None:
        self.watched[app] = tuple(targets)

    def verdicts(self, app: str) -> Mapping[str, Verdict]:
        return {t.replica: Verdict(ready=not self.sick) for t in self.watched.get(app, ())}


class World:
    def __init__(self) -> None:
        self.names: dict[str, tuple[str, ...]] = {"legacy.internal": ("10.0.0.7", "10.0.0.8")}
        self.book, self.prober, self.table, self.clock = Book(), Prober(), PromptPublisher(), MovingClock()
        fence = Fence(containers=("172.17.0.0/16",))
        self.keeper = Keeper(
            self.book,
            self.table,
            self.prober,
            self.clock,
            lambda: fence,
            lambda host, _port: self.names.get(host, (host,)),
        )

    def upstreams(self) -> list[str]:
        return [f"{u.address}:{u.port}" for u in self.table.entries["fixed:legacy"].upstreams]


@pytest.fixture
def world() -> World:
    return World()


def a_route(**fields: object) -> FixedRoute:
    base: dict[str, object] = {"name": "legacy", "host": "old.example.com", "targets": ("legacy.internal:8080",)}
    return FixedRoute(**{**base, **fields})  # type: ignore[arg-type]


def test_a_route_leads_to_all_addresses_of_its_name_that_are_ready(world: World) -> None:
    world.keeper.add(a_route(), {})
    world.keeper.look()
    assert world.upstreams() == ["10.0.0.7:8080", "10.0.0.8:8080"]
    world.prober.sick = True
    world.keeper.look()
    assert world.upstreams() == []


def test_a_name_that_leads_elsewhere_later_is_judged_anew(world: World) -> None:
    world.keeper.add(a_route(), {})
    world.keeper.look()
    world.names["legacy.internal"] = ("169.254.169.254", "172.17.0.9", "10.0.0.9")
    world.clock.move(20)
    world.keeper.look()
    assert world.upstreams() == ["10.0.0.9:8080"]


def test_a_name_that_resolves_no_more_keeps_its_last_addresses(world: World) -> None:
    world.keeper.add(a_route(), {})
    world.keeper.look()
    world.names["legacy.internal"] = ()
    world.clock.move(20)
    world.keeper.look()
    assert world.upstreams() == ["10.0.0.7:8080", "10.0.0.8:8080"]


def test_what_is_not_asked_for_any_more_leaves_the_table_and_the_prober(world: World) -> None:
    world.keeper.add(a_route(), {})
    world.keeper.look()
    world.keeper.remove("legacy")
    world.keeper.look()
    assert world.table.entries == {}
    assert world.prober.watched["fixed:legacy"] == ()


def test_a_claim_of_another_is_refused_with_its_owner(world: World) -> None:
    with pytest.raises(Refused, match=r"old\.example\.com/ belongs to app shop"):
        world.keeper.add(a_route(), {"app shop": frozenset({Claim("old.example.com")})})
    assert world.book.list() == ()


def test_a_target_that_may_not_be_one_is_refused_before_anything_is_kept(world: World) -> None:
    with pytest.raises(Refused, match="OTON_ALLOW_TARGETS"):
        world.keeper.add(a_route(targets=("172.17.0.9:80",)), {})
    assert world.book.list() == ()


def test_at_rest_nothing_is_published_again(world: World) -> None:
    world.keeper.add(a_route(), {})
    for _ in range(3):
        world.keeper.look()
    assert world.table.versions == 1


def test_it_claims_under_a_name_for_a_person(world: World) -> None:
    world.keeper.add(a_route(), {})
    assert world.keeper.claims() == {"fixed route legacy": frozenset({Claim("old.example.com")})}


def test_no_path_of_the_apis_host_can_be_a_fixed_route() -> None:
    world = World()
    world.keeper.built_in = (AppRoutes(app="fixed:api", rules=(Rule(host="api.test"),)),)
    for path in ("/", "/v1", "/x/y"):
        wish = FixedRoute(name="evil", host="api.test", path=path, targets=("legacy.internal:80",))
        with pytest.raises(Refused, match="belongs to the service's own API, with every path"):
            world.keeper.add(wish, {})
    assert world.keeper.add(FixedRoute(name="fine", host="*.test", targets=("legacy.internal:80",)), {}).name == "fine"


def test_a_fixed_route_that_an_app_takes_over_answers_until_that_is_ready() -> None:
    world = World()
    world.keeper.add(FixedRoute(name="legacy", host="old.test", targets=("legacy.internal:80",)), {})
    world.keeper.look()
    world.keeper.look()
    before = world.upstreams()
    assert before
    world.keeper.remove("legacy")
    world.keeper.heirs = lambda _entry, claims: {claim: Heir("shop") for claim in claims}
    world.keeper.look()
    assert world.upstreams() == before
    assert [rule.kept_for for rule in world.table.entries["fixed:legacy"].rules] == ["shop"]
    world.table.entries["fixed:legacy"] = replace(world.table.entries["fixed:legacy"], rules=())  # it was handed over
    world.keeper.look()
    assert "fixed:legacy" not in world.table.entries


def test_the_apis_host_is_nobody_elses_even_without_an_api_on_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTON_API_HOST", raising=False)
    assert api_entry(load_settings()) is None
    entry = api_entry(load_settings({"api": "off", "api_host": "API.Shop.test."}))
    assert entry is not None
    assert [rule.host for rule in entry.rules] == ["api.shop.test"]
    assert entry.upstreams == ()
