"""A route that is served stays served until its taker is ready; nothing else of a taker waits for a giver."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from controller.plan.picture import Picture
from controller.queries.seen import Seen, explain_state
from tests.parts.effort import examples
from tests.plan.outside import Fault
from tests.plan.town import Town

MANUAL = {"type": "blue_green", "promote": "manual"}
HOSTS = ("x.test", "y.test", "z.test")


def a_town(**hosts: str) -> Town:
    """Return a town at rest, each app with its hosts."""
    town = Town()
    for app, some in hosts.items():
        town.put(app, *some.split(), deadline="20s")
    town.settle_down()
    town.check_rest()
    return town


def rounds(town: Town, count: int) -> None:
    for _ in range(count):
        town.look()
        for name in sorted(town.apps):
            town.pass_once(name)
        town.react()
        town.pass_time(0.05)


@pytest.mark.parametrize("giver", ["bad:1", "suspended", "manual"])
def test_only_the_claim_waits_for_a_giver_that_does_not_go_live(giver: str) -> None:
    town = a_town(a="x.test keep.test", b="y.test")
    if giver == "suspended":
        town.app("a").order("suspend")
        town.settle_down()
    image = "bad:1" if giver == "bad:1" else "good:2"
    town.put("a", "keep.test", image=image, deadline="2000s", strategy=MANUAL if giver == "manual" else "rolling")
    town.put("b", "x.test", "y.test", "new.test", image="good:2", replicas=2)
    rounds(town, 60)
    assert town.answers("x.test") == "a"
    assert (town.answers("y.test"), town.answers("new.test")) == ("b", "b")
    b = town.app("b")
    assert Picture(b.situation).live.number == 2, "the rest of its release is live"
    dead = b.replicas[0]
    b.change(dead, state="exited", exit_code=1)
    rounds(town, 30)
    assert dead.id not in {u.id for u in town.table["b"].upstreams}
    assert len([r for r in b.replicas if r.state == "running"]) == 2
    order = b.order("maintenance", on=True)
    rounds(town, 4)
    assert b.answers[order] == "done"
    b.order("maintenance", on=False)
    rounds(town, 4)
    if giver != "bad:1":
        told = town.state.standings["b"].invalid
        assert "x.test/, which a has" in told
    assert town.answers("x.test") == "a"


def test_a_giver_that_fails_takes_the_exchange_back_and_a_later_one_completes_it() -> None:
    town = a_town(a="x.test", b="y.test")
    town.put("a", "y.test", image="bad:1", deadline="20s")
    town.put("b", "x.test", image="good:2")
    town.settle_down()
    town.check_rest()
    assert (town.answers("x.test"), town.answers("y.test")) == ("a", "b"), "as before"
    assert "x.test/, which a has" in town.state.standings["b"].invalid
    town.put("a", "x.test", image="good:3")
    town.settle_down()
    town.check_rest()
    assert town.answers("x.test") == "a", "what it has is its own again"
    town.put("a", "y.test", image="good:3")
    town.settle_down()
    town.check_rest()
    assert (town.answers("x.test"), town.answers("y.test")) == ("b", "a")
    assert town.state.standings["b"].invalid == ""


@pytest.mark.parametrize("what", ["dead", "maintenance"])
def test_a_taker_that_has_nobody_to_answer_takes_nothing_until_it_has(what: str) -> None:
    town = a_town(a="x.test keep.test", b="y.test")
    town.app("a").order("suspend")
    town.settle_down()
    town.put("a", "keep.test", image="good:2", deadline="20s")
    town.put("b", "x.test", "y.test", image="good:2", deadline="20s")
    town.settle_down()
    b = town.app("b")
    if what == "dead":
        b.change(b.replicas[0], state="exited", exit_code=1)
        town.look()
        town.pass_once("b")  # it is unrouted; nothing takes its place yet
    else:
        b.order("maintenance", on=True)
        town.settle_down()
    town.app("a").order("resume")
    for _ in range(30):
        town.look()
        town.pass_once("a")
        town.app("a").react()
        town.pass_time(0.05)
    assert Picture(town.app("a").situation).live.number == 2
    assert town.answers("x.test") == "a", "it answers for what it has let go"
    b.order("maintenance", on=False)
    town.settle_down()
    town.check_rest()
    assert town.answers("x.test") == "b"


def test_a_removed_app_whose_file_is_back_answers_for_an_heir_that_failed() -> None:
    town = a_town(a="x.test", b="y.test", c="z.test")
    a = town.app("a")
    a.change(a.replicas[0], state="exited", exit_code=137)
    town.drop("a")
    town.put("c", "x.test", "z.test", image="dies:1")
    rounds(town, 1)
    town.put("a", "x.test", image="good:2")
    town.settle_down()
    town.check_rest()
    assert town.answers("x.test") == "a"
    assert "x.test/, which c has" in town.state.standings["a"].invalid
    town.put("c", "z.test", image="good:2")
    town.settle_down()
    town.check_rest()
    assert (town.answers("x.test"), town.state.standings["a"].invalid) == ("a", "")


def test_a_swap_is_one_publication() -> None:
    town = a_town(a="x.test", b="y.test")
    town.put("a", "y.test", image="good:2")
    town.put("b", "x.test", image="good:2")
    seen = {(town.answers("x.test"), town.answers("y.test"))}
    publish = town.publish

    def watch(app: str, routes: object) -> None:
        publish(app, routes)  # type: ignore[arg-type]
        seen.add((town.answers("x.test"), town.answers("y.test")))

    town.publish = watch  # type: ignore[method-assign]
    town.settle_down()
    assert seen == {("a", "b"), ("b", "a")}


@pytest.mark.parametrize("by_order", [False, True])
def test_an_app_that_another_replaces_serves_until_that_one_is_ready(by_order: bool) -> None:
    town = a_town(a="x.test", z="z.test")
    town.drop("a")
    order = town.app("a").order("delete") if by_order else 0
    town.put("b", "x.test", image="good:2", replicas=2)
    town.settle_down()
    town.check_rest()
    assert town.answers("x.test") == "b"
    assert not town.app("a").replicas
    assert "a" not in town.table
    if by_order:
        assert town.app("a").answers[order] == "done"


def test_an_app_whose_heir_fails_serves_on_and_its_removal_says_what_it_waits_for() -> None:
    town = a_town(a="x.test", z="z.test")
    town.drop("a")
    order = town.app("a").order("delete")
    town.put("b", "x.test", image="bad:1", deadline="20s")
    town.settle_down()
    town.check_rest()
    assert town.answers("x.test") == "a"
    assert town.app("a").answers[order] == "waiting"
    left = town.app("a").situation
    shown = Seen(situation=left, memory=left.memory, releases=left.releases)
    assert explain_state(shown) == "removed once b is ready, which takes its routes over"
    town.put("b", "x.test", image="good:2")
    town.settle_down()
    assert town.answers("x.test") == "b"
    assert "a" not in town.table


def test_an_app_that_nobody_inherits_from_goes_at_once_and_so_does_one_whose_heir_has_gone() -> None:
    town = a_town(a="x.test", b="y.test", z="z.test")
    town.drop("a")
    town.put("b", "x.test", "y.test", image="bad:1", deadline="2000s")
    rounds(town, 20)
    assert town.answers("x.test") == "a"
    town.put("b", "y.test")
    town.settle_down()
    town.check_rest()
    assert "a" not in town.table


def test_who_waited_for_a_claim_takes_it_without_a_gap() -> None:
    town = a_town(a="x.test keep.test", b="y.test")
    town.put("b", "x.test", "y.test", image="good:2")
    town.settle_down()
    assert "x.test/, which a has" in town.state.standings["b"].invalid
    town.put("a", "keep.test", image="good:2")
    town.settle_down()
    town.check_rest()
    assert town.answers("x.test") == "b"
    assert [rule.host for rule in town.table["a"].rules] == ["keep.test"]


def test_the_delete_of_a_suspended_app_is_answered_and_goes_on_after_resume() -> None:
    town = a_town(a="x.test", b="y.test", z="z.test")
    a = town.app("a")
    a.order("suspend")
    town.settle_down()
    town.drop("a")
    order = a.order("delete")
    town.put("b", "x.test", "y.test", image="good:2")
    town.settle_down()
    assert a.answers[order] == "waiting"
    assert town.answers("x.test") == "a"
    assert "which a has" in town.state.standings["b"].invalid
    a.order("resume")
    town.settle_down()
    town.check_rest()
    assert town.answers("x.test") == "b"
    assert "a" not in town.table


@pytest.mark.parametrize(("image", "fresh"), [("good:1", 2), ("good:2", 1)])
def test_a_restart_in_the_middle_of_a_rollout_is_merged_into_it(image: str, fresh: int) -> None:
    """*fresh*: how many releases it takes to have every container replaced."""
    town = a_town(a="x.test")
    a = town.app("a")
    before = {r.id for r in a.replicas}
    town.put("a", "x.test", "y.test", image=image, replicas=2, deadline="20s")
    rounds(town, 2)
    assert a.situation.memory.rollout is not None
    order = a.order("restart")
    town.settle_down()
    town.check_rest()
    assert a.answers[order] == "release"
    assert not before & {r.id for r in a.replicas}
    assert a.situation.memory.live == 1 + fresh
    assert town.answers("y.test") == "a"


def test_a_restart_while_a_release_is_undone_follows_once_what_served_serves() -> None:
    town = a_town(a="x.test")
    a = town.app("a")
    before = {r.id for r in a.replicas}
    town.put("a", "x.test", image="bad:1", deadline="20s")
    rounds(town, 3)
    a.order("abort")
    order = a.order("restart")
    town.settle_down()
    assert a.answers[order] == "release"
    assert not before & {r.id for r in a.replicas}
    assert Picture(a.situation).live.spec.image == "good:1"


faults = st.one_of(
    st.none(),
    st.builds(Fault, at=st.integers(0, 3), how=st.sampled_from(("fail", "lost", "crash", "crash_after"))),
)
NAMES = st.sampled_from("abc")
files = st.tuples(
    st.just("file"),
    NAMES,
    st.lists(st.sampled_from(HOSTS), max_size=2, unique=True),
    st.sampled_from(("good:1", "good:2", "bad:1", "dies:1")),
    st.sampled_from(("rolling", "blue_green", MANUAL, "recreate")),
)
gifts = st.tuples(
    st.just("give"),
    st.permutations("abc"),
    st.sampled_from(HOSTS),
    st.sampled_from(("good:1", "good:2", "bad:1", "dies:1", "")),
    st.sampled_from(("good:1", "good:2", "good:2", "bad:1")),
    st.sampled_from(("rolling", "blue_green", MANUAL, "recreate")),
)
"""One look in which one app takes a host from another; without an image the giver's file goes."""
actions = st.one_of(
    files,
    gifts,
    gifts,
    gifts,
    st.tuples(st.just("rounds"), st.integers(1, 12)),
    st.tuples(st.just("drop"), NAMES),
    st.tuples(st.just("look")),
    st.tuples(
        st.just("order"), NAMES, st.sampled_from(("suspend", "resume", "promote", "rollback", "abort", "restart"))
    ),
    st.tuples(st.just("pass"), NAMES, faults),
    st.tuples(st.just("pass"), NAMES, faults),
    st.tuples(st.just("rounds"), st.integers(1, 12)),
    st.tuples(st.just("react")),
    st.tuples(st.just("time"), st.sampled_from((0.1, 6.0, 31.0))),
    st.tuples(st.just("kill"), NAMES),
)


def give(town: Town, apps: str, host: str, leaves: str, takes: str, strategy: object) -> None:
    giver, taker, _ = apps
    had, has = town.hosts(giver), town.hosts(taker)
    if leaves:
        town.put(giver, *sorted(had - {host}), image=leaves, strategy=strategy, deadline="20s")
    else:
        town.drop(giver)
    town.put(taker, *sorted(has | {host}), image=takes, strategy=strategy, deadline="20s")
    town.look()


def act(town: Town, what: str, *how: object) -> None:
    match what:
        case "file":
            app, hosts, image, strategy = how
            town.put(str(app), *hosts, image=str(image), strategy=strategy, deadline="20s")  # type: ignore[misc]
        case "give":
            give(town, *how)  # type: ignore[arg-type]
        case "order":
            town.app(str(how[0])).order(how[1])  # type: ignore[arg-type]
        case "kill":
            for replica in town.app(str(how[0])).replicas[:1]:
                town.story.append(f"-- exit {replica.name}")
                town.app(str(how[0])).change(replica, state="exited", exit_code=137)
        case "rounds":
            rounds(town, int(how[0]))  # type: ignore[call-overload]
        case "time":
            town.pass_time(float(how[0]))  # type: ignore[arg-type]
        case "pass":
            town.pass_once(str(how[0]), how[1])  # type: ignore[arg-type]
        case _:
            getattr(town, what)(*how)


@pytest.mark.fuzz
@pytest.mark.timeout(1200)
@settings(
    max_examples=examples(120),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=tuple(set(Phase) - {Phase.explain}),
)
@given(st.lists(actions, max_size=30))
def test_whatever_apps_give_and_take_every_route_is_answered_until_its_taker_is_ready_and_all_come_to_rest(
    story: list[tuple[object, ...]],
) -> None:
    town = a_town(a="x.test", b="y.test", c="z.test")
    for what, *how in story:
        act(town, str(what), *how)
    town.settle_down()
    town.check_rest()
