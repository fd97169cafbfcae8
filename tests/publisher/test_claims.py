"""Every claim of the table has one owner, and passes on in one version."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import Refused
from controller.plan.claims import Claim, claim_of, claims_of_routes
from controller.publisher.claims import ClaimIndex
from controller.routing.match import compile_table
from controller.routing.table import AppRoutes, Rule, Table
from tests.parts.effort import examples


class Book:
    """A table with its index."""

    def __init__(self, **reserved: str) -> None:
        self.index = ClaimIndex()
        self.index.reserved = {host.replace("_", "."): app for host, app in reserved.items()}
        self.table: dict[str, AppRoutes] = {}

    def publish(self, app: str, *rules: Rule, waiting: tuple[Rule, ...] = (), gone: bool = False) -> set[str]:
        """Publish an entry; return the apps whose entries that changed."""
        entry = None if gone else AppRoutes(app=app, rules=rules, waiting=waiting)
        settled = self.index.settle({app: entry}, self.table)
        changed = {name for name, one in settled.items() if self.table.get(name) != one}
        self.index.take(settled)
        self.table = {name: one for name, one in {**self.table, **settled}.items() if one is not None}
        return changed

    def owner(self, host: str, path: str = "/") -> str:
        match = compile_table(Table(apps=self.table)).find(host, path)
        return match.app if match else ""

    def waiting(self, app: str) -> list[str]:
        return [str(rule.host) for rule in self.table[app].waiting]


X, Y = Rule(host="x.test"), Rule(host="y.test")


def kept(rule: Rule, heir: str) -> Rule:
    return Rule(host=rule.host, path=rule.path, kept_for=heir)


def test_a_kept_claim_passes_when_its_heir_asks_and_to_nobody_else() -> None:
    book = Book()
    book.publish("a", X)
    book.publish("a", kept(X, "b"))
    assert book.owner("x.test") == "a"
    book.publish("b", Rule(host="x.test", announced=True))
    assert book.owner("x.test") == "a", "what is only announced takes nothing"
    assert book.publish("b", waiting=(X,)) == {"a", "b"}
    assert book.owner("x.test") == "b"
    assert book.table["a"].rules == ()


def test_a_swap_passes_both_ways_in_one_version() -> None:
    book = Book()
    book.publish("a", X)
    book.publish("b", Y)
    book.publish("a", kept(X, "b"), waiting=(Y,))
    assert (book.owner("x.test"), book.owner("y.test")) == ("a", "b")
    assert book.publish("b", kept(Y, "a"), waiting=(X,)) == {"a", "b"}
    assert (book.owner("x.test"), book.owner("y.test")) == ("b", "a")


def test_who_keeps_a_claim_for_another_may_have_it_back() -> None:
    book = Book()
    book.publish("a", X)
    book.publish("a", kept(X, "b"))
    book.publish("a", X)
    book.publish("b", waiting=(X,))
    assert book.owner("x.test") == "a"
    assert book.waiting("b") == ["x.test"]
    book.publish("a", gone=True)
    assert book.owner("x.test") == "b"


def test_who_keeps_what_nobody_has_any_more_answers_for_it_again() -> None:
    book = Book()
    book.publish("a", X)
    book.publish("a")
    assert book.publish("a", kept(X, "b")) == {"a"}
    assert book.owner("x.test") == "a"
    assert book.index.settle({"a": book.table["a"]}, book.table) == {"a": book.table["a"]}
    book.publish("b", Rule(host="x.test", announced=True))
    book.publish("a")
    assert book.owner("x.test") == ""
    book.publish("b", Rule(host="x.test", announced=True))
    assert book.owner("x.test") == "b"
    book.publish("b")
    book.publish("a", kept(X, "b"))
    book.publish("b", waiting=(X,))
    assert book.owner("x.test") == "b"


def test_a_reserved_host_is_nobodys_but_its_owners_whatever_was_published_before() -> None:
    book = Book()
    book.publish("old", Rule(host="api.test", path="/v1"), X)
    book.publish("wild", Rule(host="*.test"))
    book.index.reserved = {"api.test": "fixed:api"}
    assert book.index.foreign("old", {Claim("api.test", "/v1"), Claim("x.test")}) == {Claim("api.test", "/v1")}
    book.publish("new", Rule(host="API.test", path="/v1/tokens"), Rule(host="new.test"))
    assert book.owner("new.test") == "new"
    assert book.publish("fixed:api", Rule(host="api.test")) == {"fixed:api", "old"}
    for path in ("/", "/v1", "/v1/tokens", "/anything"):
        assert book.owner("api.test", path) == "fixed:api"
    assert (book.owner("x.test"), book.owner("other.test")) == ("old", "wild")
    book.publish("fixed:api", gone=True)
    assert book.owner("api.test", "/v1") == "wild", "the controller keeps that entry; its rules went to nobody"


def test_a_route_that_cannot_be_read_is_refused_and_changes_nothing() -> None:
    with pytest.raises(Refused, match="a: a route cannot be published"):
        Book().publish("a", Rule(host="x.test", path="/%zz"))


rules = st.builds(
    lambda host, path, heir, announced: Rule(host=host, path=path, kept_for=heir, announced=announced and not heir),
    st.sampled_from(("x.test", "y.test", "*.test", "api.test")),
    st.sampled_from(("/", "/a")),
    st.sampled_from(("", "", "a", "b", "c")),
    st.booleans(),
)
some_rules = st.lists(rules, max_size=3, unique_by=claim_of).map(tuple)


@pytest.mark.fuzz
@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), some_rules, some_rules), max_size=8))
def test_no_two_apps_ever_have_one_claim_and_nobody_waits_for_what_is_free(
    story: list[tuple[str, tuple[Rule, ...], tuple[Rule, ...]]],
) -> None:
    book = Book(api_test="fixed:api")
    for app, has, more in story:
        mine = {claim_of(rule) for rule in has}
        waits = tuple(Rule(host=r.host, path=r.path) for r in more if claim_of(r) not in mine)
        book.publish(app, *has, waiting=waits)
        owned = [claim for entry in book.table.values() for claim in claims_of_routes(entry)]
        assert len(owned) == len(set(owned))
        assert not any(claim.host == "api.test" for claim in owned)
        for entry in book.table.values():
            for rule in entry.waiting:
                assert claim_of(rule) in owned or claim_of(rule).host == "api.test"
        again = book.index.settle(book.table, book.table)
        assert again == book.table, "settled once is settled"
