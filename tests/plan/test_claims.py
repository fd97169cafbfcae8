"""Hosts and paths have one owner at any time, and nobody waits longer than another keeps what they ask for."""

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.plan.claims import (
    Claim,
    Claims,
    Grants,
    Holdings,
    claims_of,
    claims_of_routes,
    foreign_claims,
    grant_claims,
)
from controller.routing.table import AppRoutes, Rule
from controller.spec.model import AppSpec
from tests.parts.effort import examples

pytestmark = pytest.mark.fuzz


def some(text: str) -> Claims:
    return frozenset(Claim(host) for host in text.split())


def each(**claims: str) -> dict[str, Claims]:
    return {app: some(text) for app, text in claims.items()}


def holding(
    wanted: Mapping[str, Claims] | None = None,
    live: Mapping[str, Claims] | None = None,
    fixed: Mapping[str, Claims] | None = None,
    owners: Mapping[Claim, str] | None = None,
    kept: Mapping[str, Claims] | None = None,
) -> Holdings:
    return Holdings(wanted=wanted or {}, live=live or {}, fixed=fixed or {}, owners=owners or {}, kept=kept or {})


@pytest.mark.parametrize(
    ("why", "asked", "holdings", "moved", "waiting"),
    [
        ("nobody has it", each(a="x"), holding(), "a", {}),
        ("the one that has it keeps it", each(b="x"), holding(each(a="x")), "", {"b": "a"}),
        ("a claim ends with the release, not with the spec", each(b="x"), holding(each(a=""), each(a="x")), "", {"b": "a"}),
        ("an owner may change the rest", each(a="x y"), holding(each(a="x"), each(a="x")), "a", {}),
        ("both changed: both move", each(a="", b="x"), holding(each(a="x"), each(a="x")), "a b", {}),
        ("a swap", each(a="y", b="x"), holding(each(a="x", b="y"), each(a="x", b="y")), "a b", {}),
        ("a ring of three", each(a="y", b="z", c="x"), holding(each(a="x", b="y", c="z")), "a b c", {}),
        ("a broken ring moves nobody", each(a="y", b="x w"), holding(each(a="x", b="y", d="w")), "", {"a": "b", "b": "a d"}),
        ("two newcomers: the first name", each(b="x", a="x", c="x"), holding(), "a", {"b": "a", "c": "a"}),
        ("the first name that may", each(a="x y", b="x"), holding(each(c="y")), "b", {"a": "b c"}),
        ("a fixed route keeps it", each(a="x"), holding(fixed={"fixed route 1": some("x")}), "", {"a": "fixed route 1"}),
        ("a fixed route keeps it from one that asks anew", each(a="x y"), holding(each(a="y"), fixed={"fixed": some("x")}), "", {"a": "fixed"}),
        ("what it lacks already holds up nothing more", each(a="x y"), holding(each(a="x"), fixed={"fixed": some("x")}), "a", {}),
        ("after a restart what is live has it", each(b="x y"), holding(each(b="y"), each(a="x")), "", {"b": "a"}),
        ("a kept one is nobody's, whatever its app's file says", each(b="x"), holding(each(a=""), each(a="x"), kept=each(a="x")), "", {"b": "a"}),
        ("who keeps it may have it back", each(a="x"), holding(each(a="", b="x"), each(a="x", b="x"), kept=each(a="x")), "a", {}),
        ("who keeps it may let go", each(a="z", c="x"), holding(each(a=""), each(a="x"), kept=each(a="x")), "a c", {}),
        ("the last owner has it before what is live", each(b="x y"), holding(each(b="x"), each(a="x", b="x"), owners={Claim("x"): "b"}), "b", {}),
        ("of two that are live, the one whose spec wants it", each(b="x y"), holding(each(b="x"), each(a="x", b="x")), "b", {}),
        ("letting go alone is always granted", each(a=""), holding(each(a="x"), each(a="x")), "a", {}),
    ],
)  # fmt: skip
def test_who_may_have_what(why: str, asked: dict[str, Claims], holdings: Holdings, moved: str, waiting: dict[str, str]):
    grants = grant_claims(asked, holdings)
    assert grants.moved == frozenset(moved.split()), why
    assert {app: " ".join(sorted({owner for _, owner in places})) for app, places in grants.waiting.items()} == waiting


@pytest.mark.parametrize(
    ("why", "patient", "moved"),
    [
        ("both changed in one look", "", "a b"),
        ("who waited longer waits for the release", "b", "a"),
        ("it does not matter whether the owner waited, too", "a", "a b"),
    ],
)  # fmt: skip
def test_who_waited_gets_it_once_the_release_without_it_is_live(why: str, patient: str, moved: str):
    before = holding(each(a="x"), each(a="x"))
    assert grant_claims(each(a="y", b="x"), before, patient).moved == frozenset(moved.split()), why
    after = holding(each(a="y"), each(a="y"))
    assert grant_claims(each(b="x"), after, patient).moved == {"b"}


def test_those_that_wait_for_each_other_move_whenever_they_asked():
    before = holding(each(a="x", b="y", c="z"), each(a="x", b="y", c="z"))
    for patient in ("", "a", "b", "ab"):
        assert grant_claims(each(a="y", b="x", d="z"), before, patient).moved == {"a", "b"}
    assert grant_claims(each(c="", d="z"), before, "d").waiting == {"d": ((Claim("z"), "c"),)}


def test_a_reserved_host_is_its_owners_with_every_path_and_nobody_elses():
    api = {"api.test": "the API"}
    asked = {"a": frozenset({Claim("api.test", "/v1")}), "b": frozenset({Claim("api.test")}), "c": some("*.test")}
    grants = grant_claims(asked, Holdings(reserved=api))
    assert grants.moved == {"c"}
    assert grants.waiting == {"a": ((Claim("api.test", "/v1"), "the API"),), "b": ((Claim("api.test"), "the API"),)}
    had = Holdings(wanted={"a": asked["a"]}, live={"a": asked["a"]}, reserved=api)
    owners = grant_claims({}, had).owners
    assert foreign_claims("a", asked["a"], owners) == ((Claim("api.test", "/v1"), "the API"),)


def test_a_waiting_app_is_told_each_claim_and_its_owner():
    grants = grant_claims(each(c="y x"), holding(each(a="x", b="y")))
    assert grants.waiting == {"c": ((Claim("x"), "a"), (Claim("y"), "b"))}


def test_owners_are_known_afterwards():
    grants = grant_claims(each(a="y", b="x"), holding(each(a="x", b="y", c="z")))
    assert grants.owners == {Claim("x"): "b", Claim("y"): "a", Claim("z"): "c"}


def test_who_took_it_keeps_it_although_the_old_release_still_runs():
    taken = grant_claims(each(a="", b="x"), holding(each(a="x"), each(a="x")))
    wanted = each(a="", b="x")
    back = grant_claims(each(a="x"), holding(wanted, each(a="x"), owners=taken.owners))
    assert back.waiting == {"a": ((Claim("x"), "b"),)}
    newer = grant_claims(each(b="x y"), holding(wanted, each(a="x"), owners=taken.owners))
    assert newer.moved == {"b"}


def test_claims_compare_in_one_form():
    spec = AppSpec.model_validate(
        {
            "name": "shop",
            "image": "x",
            "port": 80,
            "routes": [{"host": "SHOP.example.com."}, {"host": "bücher.example", "path": "/a/"}, {"path": "/any"}],
            "strategy": {"type": "blue_green", "preview_host": "Next.example.com"},
        }
    )
    routes = AppRoutes(
        app="x",
        rules=(
            Rule(host="shop.example.com"),
            Rule(host="xn--bcher-kva.example", path="/a"),
            Rule(path="/any/"),
            Rule(host="next.example.com", group="preview"),
        ),
    )
    assert claims_of(spec) == claims_of_routes(routes)
    assert sorted(map(str, claims_of(spec))) == [
        "any host/any",
        "next.example.com/",
        "shop.example.com/",
        "xn--bcher-kva.example/a",
    ]


def test_foreign_claims_are_those_of_others():
    owners = {Claim("x"): "a", Claim("y"): "b"}
    assert foreign_claims("a", some("x y z"), owners) == ((Claim("y"), "b"),)


NAMES = "abcdef"
SOME_NAMES = st.sets(st.sampled_from(NAMES))
many = settings(max_examples=examples(100), deadline=None)

CLAIMS = st.frozensets(st.sampled_from([Claim(host) for host in "uvwxyz"]), max_size=4)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, Claims], Holdings]:
    """Any looks one after another, from nothing: what is wanted and live is what earlier grants left."""
    holdings = Holdings(fixed=draw(st.dictionaries(st.sampled_from(["fixed 1", "fixed 2"]), CLAIMS, max_size=1)))
    for _ in range(draw(st.integers(0, 4))):
        asked = draw(st.dictionaries(st.sampled_from(NAMES), CLAIMS))
        grants = grant_claims(asked, holdings, draw(SOME_NAMES))
        lagging = draw(SOME_NAMES)
        holdings = keep(follow(holdings, asked, grants, lagging=lagging), draw(SOME_NAMES) & lagging)
    return draw(st.dictionaries(st.sampled_from(NAMES), CLAIMS)), holdings


def follow(before: Holdings, asked: Mapping[str, Claims], grants: Grants, lagging: set[str] = frozenset()) -> Holdings:
    """Return what is held after a look, where the releases of *lagging* apps have not gone live yet."""
    wanted = {**before.wanted, **{app: asked[app] for app in grants.moved}}
    live = {
        app: before.live.get(app, frozenset()) | claims if app in lagging else claims for app, claims in wanted.items()
    }
    return Holdings(wanted=wanted, live=live, fixed=before.fixed, owners=grants.owners)


def keep(before: Holdings, stuck: set[str]) -> Holdings:
    """Return what is held once *stuck* apps rest at a release that their file no longer asks for."""
    owned = {app: {claim for claim, owner in before.owners.items() if owner == app} for app in NAMES}
    others = {app: {c for other, claims in before.wanted.items() if other != app for c in claims} for app in NAMES}
    kept = {
        app: frozenset(before.live.get(app, frozenset()) - (others[app] - owned[app]))
        for app in sorted(stuck & before.live.keys())
    }
    return replace(before, kept=kept)


def shuffled(items: Mapping[str, Claims], seed: int) -> dict[str, Claims]:
    order = list(items)
    random.Random(seed).shuffle(order)
    return {key: items[key] for key in order}


@many
@given(worlds(), SOME_NAMES)
def test_no_claim_is_granted_to_two_or_to_one_while_another_keeps_it(
    world: tuple[dict[str, Claims], Holdings], patient: set[str]
):
    asked, before = world
    grants = grant_claims(asked, before, patient)
    for app in grants.moved:
        for other in {*before.wanted, *before.live, *grants.moved, *before.fixed} - {app}:
            has = before.wanted.get(other, frozenset()) | before.live.get(other, frozenset())
            kept = asked[other] if other in grants.moved else has | before.fixed.get(other, frozenset())
            for claim in (asked[app] - before.wanted.get(app, frozenset())) & kept:
                may = before.owners.get(claim) == app or claim in before.kept.get(app, frozenset())
                assert may, "only what was given away earlier may still be live elsewhere"


@many
@given(worlds(), SOME_NAMES)
def test_specs_in_force_never_share_a_claim(world: tuple[dict[str, Claims], Holdings], patient: set[str]):
    asked, before = world
    after = follow(before, asked, grant_claims(asked, before, patient))
    owned = [claim for app in after.wanted for claim in after.wanted[app]]
    assert len(owned) == len(set(owned))
    assert not set(owned) & {claim for claims in before.fixed.values() for claim in claims}


@many
@given(worlds(), st.integers(0, 9))
def test_the_order_of_names_in_the_input_changes_nothing(world: tuple[dict[str, Claims], Holdings], seed: int):
    asked, before = world
    other = Holdings(
        wanted=shuffled(before.wanted, seed),
        live=shuffled(before.live, seed + 1),
        fixed=shuffled(before.fixed, seed),
        owners=dict(reversed(before.owners.items())),
    )
    assert grant_claims(shuffled(asked, seed), other) == grant_claims(asked, before)


@many
@given(worlds(), SOME_NAMES)
def test_nobody_waits_without_another_who_has_it(world: tuple[dict[str, Claims], Holdings], patient: set[str]):
    asked, before = world
    grants = grant_claims(asked, before, patient)
    after = follow(before, asked, grants)
    assert grants.waiting.keys() == asked.keys() - grants.moved
    for app, places in grants.waiting.items():
        assert places
        assert all(owner != app and owner in {*after.wanted, *before.live, *before.fixed} for _, owner in places)


@many
@given(worlds())
def test_every_waiting_app_moves_once_all_is_free(world: tuple[dict[str, Claims], Holdings]):
    asked, before = world
    for app in grant_claims(asked, before).waiting:
        assert grant_claims({app: asked[app]}, Holdings()).moved == {app}


def test_an_earlier_name_that_cannot_move_does_not_keep_two_from_an_exchange():
    # a and d exchange u and w; c, an earlier name than d, wants w as well, and v, which b lets go.
    u, v, w = Claim("u"), Claim("v"), Claim("w")
    has = {"a": frozenset({w}), "b": frozenset({v}), "d": frozenset({u})}
    asked = {"a": frozenset({u}), "b": frozenset[Claim](), "c": frozenset({v, w}), "d": frozenset({w})}
    grants = grant_claims(asked, Holdings(wanted=has, live=has, owners={u: "d", v: "b", w: "a"}))
    assert grants.moved == {"a", "b", "d"}
    assert grants.waiting.keys() == {"c"}


@many
@given(worlds())
def test_a_second_look_grants_nothing_new(world: tuple[dict[str, Claims], Holdings]):
    asked, before = world
    grants = grant_claims(asked, before)
    moved_live = {**before.live, **{app: asked[app] | before.live.get(app, frozenset()) for app in grants.moved}}
    wanted = {**before.wanted, **{app: asked[app] for app in grants.moved}}
    again = grant_claims(
        {app: asked[app] for app in grants.waiting},
        Holdings(wanted=wanted, live=moved_live, fixed=before.fixed, owners=grants.owners),
    )
    assert not again.moved
