"""Hosts and paths lead where the contract says, however large the table is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.routing.match import BadTarget, Matcher, compile_table, conflicts, normalise_host, normalise_path
from controller.routing.table import AppRoutes, Rule, Table


def an_app(name: str, *rules: tuple[str | None, str]) -> AppRoutes:
    return AppRoutes(app=name, rules=tuple(Rule(host=host, path=path) for host, path in rules))


def a_table(*apps: AppRoutes) -> Table:
    return Table(apps={routes.app: routes for routes in apps})


def a_matcher(*apps: AppRoutes) -> Matcher:
    return compile_table(a_table(*apps))


def found(matcher: Matcher, host: str, path: str) -> str | None:
    match = matcher.find(host, path)
    return match.app if match else None


HOUSE = a_matcher(
    an_app("shop", ("shop.example.com", "/"), ("example.com", "/shop")),
    an_app("wild", ("*.example.com", "/"), ("*.example.com", "/deep/er")),
    an_app("any", (None, "/any"), (None, "/shop/x")),
    an_app("api", ("shop.example.com", "/api/v1"), ("shop.example.com", "/api")),
)


@pytest.mark.parametrize(
    ("host", "path", "app"),
    [
        ("shop.example.com", "/", "shop"),
        ("shop.example.com", "/api", "api"),
        ("shop.example.com", "/api/", "api"),
        ("shop.example.com", "/api/v1/users", "api"),
        ("shop.example.com", "/apis", "shop"),
        ("example.com", "/shop", "shop"),
        ("example.com", "/shop/x", "shop"),
        ("example.com", "/shopping", None),
        ("example.com", "/any/x", "any"),
        ("blog.example.com", "/deep/er/x", "wild"),
        ("a.b.example.com", "/", None),
        ("elsewhere.org", "/any", "any"),
        ("elsewhere.org", "/", None),
        ("shop.example.com", "/.well-known/x", "shop"),
        ("shop.example.com", "/%41pi", "shop"),
        ("shop.example.com", "/a/%C3%A4", "shop"),
    ],
)
def test_exact_host_then_wildcard_then_any_and_the_longest_path(host: str, path: str, app: str | None) -> None:
    assert found(HOUSE, host, path) == app


def test_a_match_says_why() -> None:
    match = HOUSE.find("blog.example.com", "/deep/er/x")
    assert match is not None
    assert match.explain() == "host *.example.com (wildcard), path /deep/er"


@pytest.mark.parametrize(
    "path",
    [
        "/x/../api",
        "/%61pi",
        "/./api",
        "/x/%2e%2e/api/v1",
        "/api/../",
        "/a%2Fb",
        "/a%5cb",
        "/a%00",
        "/a\\b",
        "/a%zz",
        "/a%2",
        "/a%",
    ],
)
def test_a_path_that_could_be_read_in_two_ways_is_refused(path: str) -> None:
    with pytest.raises(BadTarget):
        HOUSE.find("shop.example.com", path)


@pytest.mark.parametrize("path", ["/api/x/../y", "/api/%7Euser", "/api/a%20b", "/x/./y"])
def test_normalising_within_one_rule_is_no_reason_to_refuse(path: str) -> None:
    assert found(HOUSE, "shop.example.com", path) is not None


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Shop.Example.COM", "shop.example.com"),
        ("shop.example.com:8443", "shop.example.com"),
        ("shop.example.com.", "shop.example.com"),
        ("shop.example.com.:80", "shop.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("127.0.0.1:3000", "127.0.0.1"),
        ("[::1]:3000", "[::1]"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
    ],
)
def test_hosts_compare_in_one_spelling(raw: str, clean: str) -> None:
    assert normalise_host(raw) == clean


@pytest.mark.parametrize(
    "raw", ["", "a b", "a/b", "a@b", "a:b", "a:80:80", "[::1", "a,b", "a\tb", ".", "a..b%", "x:999999"]
)
def test_a_host_that_is_none_is_refused(raw: str) -> None:
    with pytest.raises(BadTarget):
        normalise_host(raw)


def test_rules_are_normalised_like_requests() -> None:
    matcher = a_matcher(an_app("a", ("Bücher.Example", "/%7Ebob/")))
    assert found(matcher, "xn--bcher-kva.example", "/~bob/x") == "a"


def test_conflicts_name_the_owner() -> None:
    mine = an_app("new", ("x.example", "/a/"), ("y.example", "/"))
    assert [(rule.host, app) for rule, app in conflicts(mine, [an_app("old", ("X.example", "/a"))])] == [
        ("x.example", "old")
    ]
    assert conflicts(mine, [mine]) == ()


def test_the_cost_of_a_long_path_is_that_of_the_deepest_rule() -> None:
    assert found(HOUSE, "shop.example.com", "/api" + "/x" * 100_000) == "api"


hosts = st.sampled_from([None, "a.example", "b.example", "*.example", "*.b.example"])
paths = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3).map(lambda parts: "/" + "/".join(parts))
rules = st.lists(st.tuples(hosts, paths), max_size=4)
tables = st.dictionaries(st.sampled_from(["p", "q", "r", "s"]), rules, max_size=4)


@given(tables, tables, st.sampled_from(["p", "q", "r", "s"]))
def test_a_table_compiled_by_changes_answers_like_one_compiled_whole(
    before: dict[str, list[tuple[str | None, str]]], after: dict[str, list[tuple[str | None, str]]], same: str
) -> None:
    first = {name: an_app(name, *rules) for name, rules in before.items()}
    second = {name: an_app(name, *rules) for name, rules in after.items()}
    if same in first:
        second[same] = first[same]
    whole = compile_table(Table(apps=second))
    step = compile_table(Table(apps=second), compile_table(Table(apps=first)))
    for host in ("a.example", "b.example", "x.b.example", "other"):
        for path in ("/", "/a", "/a/b", "/a/b/c/d", "/c/x"):
            assert step.find(host, path) == whole.find(host, path)


@given(st.text(alphabet="/.%ab2ef5cC0~", max_size=20).map(lambda text: "/" + text))
def test_a_normalised_path_is_its_own_normal_form(path: str) -> None:
    try:
        clean = normalise_path(path)
    except BadTarget:
        return
    assert normalise_path(clean) == clean
    assert "/../" not in clean


def test_an_announced_rule_takes_nothing_from_its_own_app_and_from_others_what_its_host_and_path_say() -> None:
    soon = AppRoutes(
        app="api",
        rules=(
            *HOUSE.table.apps["api"].rules,
            *(
                Rule(host=host, path=path, announced=True)
                for host, path in (("shop.example.com", "/api/v1/x"), ("www.example.com", "/"), ("new.org", "/"))
            ),
        ),
    )
    matcher = compile_table(Table(apps={**HOUSE.table.apps, "api": soon}), HOUSE, ["api"])
    own = matcher.find("shop.example.com", "/api/v1/x")
    assert own is not None
    assert (own.app, own.rule.announced) == ("api", False), "its own release that serves goes on"
    for host in ("www.example.com", "new.org"):
        coming = matcher.find(host, "/")
        assert coming is not None
        assert (coming.app, coming.rule.announced) == ("api", True), "a route exists once its spec is accepted: 503"
    assert found(matcher, "other.example.com", "/") == "wild"
    later = compile_table(HOUSE.table, matcher, ["api"])
    assert (found(later, "www.example.com", "/"), found(later, "new.org", "/")) == ("wild", None)


@pytest.mark.parametrize(("host", "path"), [("a.example.com", "/"), ("a.example.com", "/x/y"), ("", "/")])
def test_what_answers_until_its_heir_is_ready_loses_no_request_to_an_announced_rule(host: str, path: str) -> None:
    old = AppRoutes(app="old", rules=(Rule(host="a.example.com", kept_for="new"),))
    new = AppRoutes(app="new", rules=(Rule(host=host, path=path, announced=True),))
    matcher = compile_table(Table(apps={"old": old, "new": new}))
    assert found(matcher, "a.example.com", "/x/y/z") == "old"
