from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from controller.errors import Broken
from controller.plan.operations import KeepLogs, PublishRoutes, ResolveImage, StopReplica
from controller.plan.situation import Answer, Decision, Done, Memory, Note, Pin, Warm
from controller.routing.table import AppRoutes, Rule
from controller.store import Store
from tests.builders import a_spec, at
from tests.store.kit import MovedClock, a_decision, a_memory, a_release, a_start, an_order, running, sql, writes


def test_an_unknown_app_is_empty(store: Store):
    assert store.load("nobody") == (Memory(), {}, ())
    assert store.apps() == ()
    assert writes(store) == writes(store)


def test_what_a_pass_decided_is_there_after_a_restart(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        first = store.order(an_order())
        second = store.order(an_order("suspend"))
        answer = Answer(order=first.id, result="release", release=1)
        store.intend("shop", a_decision(a_start(), answers=(answer,)), at())
        store.conclude("shop", a_memory(suspended=True), (Done(a_start(), "done"),), at(1))
        before = store.load("shop")
    with running(path, clock) as store:
        assert store.load("shop") == before == (a_memory(suspended=True), {1: a_release()}, (second,))
        assert store.answer(first.id) == answer
        assert store.answer(second.id) is None
        assert [(one.order.id, one.answer) for one in store.answers("shop")] == [(second.id, None), (first.id, answer)]


def test_a_pass_with_nothing_to_do_writes_nothing(path: Path, clock: MovedClock):
    decision = a_decision()
    with running(path, clock) as store:
        store.intend("shop", decision, at())
        before = writes(store)
        for second in range(5):
            store.intend("shop", decision, at(second))
            store.conclude("shop", decision.memory, (), at(second))
        assert writes(store) == before
    with running(path, clock) as store:
        before = writes(store)
        store.intend("shop", decision, at(9))
        store.conclude("shop", decision.memory, (), at(9))
        assert writes(store) == before


@pytest.mark.parametrize(
    "change",
    [
        {"memory": a_memory(suspended=True)},
        {"releases": (a_release(outcome="live"),)},
        {"notes": (Note("new spec"), Note("waits"))},
        {"notes": ()},
        {"operations": (a_start(),)},
    ],
)
def test_whatever_is_new_in_a_decision_is_written(store: Store, change: dict):
    store.intend("shop", a_decision(), at())
    before = writes(store)
    store.intend("shop", replace(a_decision(), **change), at(1))
    assert writes(store) > before


def test_the_same_note_is_an_event_once(store: Store):
    for second in range(3):
        store.intend("shop", a_decision(memory=a_memory(change=second)), at(second))
    assert [event.text for event in store.events() if event.kind == "note"] == ["new spec"]


def test_an_answer_to_an_order_that_is_answered_already_writes_nothing(store: Store):
    order = store.order(an_order())
    first = Answer(order=order.id, result="done")
    store.intend("shop", a_decision(answers=(first,)), at())
    before = writes(store)
    store.intend("shop", a_decision(answers=(Answer(order=order.id, result="failed"),)), at(1))
    assert (writes(store), store.answer(order.id)) == (before, first)


def test_an_order_that_comes_during_a_pass_stays_open(store: Store):
    first = store.order(an_order())
    _, _, seen = store.load("shop")
    second = store.order(an_order("restart"))
    store.intend("shop", a_decision(answers=(Answer(order=seen[0].id, result="done"),)), at())
    assert (seen, store.load("shop")[2]) == ((first,), (second,))


def test_an_app_with_an_open_order_is_looked_at_even_if_it_is_removed(store: Store):
    store.intend("shop", a_decision(memory=a_memory(rollout=None, removed=True)), at())
    assert (store.apps(), store.all_apps()) == ((), ("shop",))
    order = store.order(an_order("delete"))
    assert store.apps() == ("shop",)
    store.intend(
        "shop", Decision(memory=a_memory(removed=True), answers=(Answer(order=order.id, result="done"),)), at()
    )
    assert store.apps() == ()


def test_the_release_counter_outlives_the_app(path: Path, clock: MovedClock):
    gone = Memory(last_release=7, removed=True)
    with running(path, clock) as store:
        store.intend("shop", Decision(memory=gone), at())
    with running(path, clock) as store:
        assert store.load("shop")[0] == gone


def test_steps_read_as_the_plan_prints_them(store: Store):
    operations = (
        ResolveImage("shop/2", "shop:2", "missing", "spec changed"),
        a_start(2),
        PublishRoutes(AppRoutes(app="shop", rules=(Rule(host="shop.example.com"),)), "ready"),
        StopReplica("id1", "shop-r1-1", "drained"),
        KeepLogs("id1", "shop-r1-1", "going"),
    )
    store.intend("shop", a_decision(*operations, memory=a_memory(2)), at())
    assert {step.state for step in store.steps("shop", 2)} == {"planned"}
    ends = ("done", "done", "done", "failed", "not_tried")
    done = tuple(
        Done(one, end, "engine is busy" if end == "failed" else "") for one, end in zip(operations, ends, strict=True)
    )
    store.conclude("shop", a_memory(2), done, at(1))
    steps = store.steps("shop", 2)
    assert [(step.text, step.state, step.outcome) for step in steps] == [
        ("image shop:2", "done", ""),
        ("start shop-r2-1", "done", ""),
        ("publish serve nobody", "done", ""),
        ("stop shop-r1-1", "failed", "engine is busy"),
        ("logs shop-r1-1", "not_tried", ""),
    ]
    assert [event.text for event in store.events() if event.kind == "step"] == [
        "image shop:2: spec changed",
        "start shop-r2-1: image changed: 1.4 -> 1.5",
        "publish serve nobody: ready",
        "stop shop-r1-1: failed: engine is busy",
    ]
    (published,) = store.published("shop")
    assert (published.routes, published.because) == (operations[2].routes, "ready")
    assert store.steps("shop", 1) == ()


def test_a_decision_repeated_for_a_week_does_not_fill_the_disk(store: Store):
    for second in range(20):
        store.intend("shop", a_decision(a_start()), at(second))
        store.conclude("shop", a_memory(), (Done(a_start(), "failed", "engine is busy"),), at(second))
    (step,) = store.steps("shop")
    assert (step.times, step.state, step.at) == (20, "failed", at(19).wall)
    assert len([event for event in store.events() if event.kind == "step"]) == 1
    store.intend("shop", a_decision(a_start()), at(30))
    store.conclude("shop", a_memory(), (Done(a_start(), "done"),), at(30))
    assert [event.level for event in store.events() if event.kind == "step"] == ["warning", "info"]


def test_a_step_that_a_crash_cut_short_reads_interrupted(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        store.intend("shop", a_decision(a_start()), at())
    with running(path, clock) as store:
        assert [step.state for step in store.steps("shop")] == ["interrupted"]
        store.conclude("shop", a_memory(), (Done(a_start(), "done"),), at())
        assert [step.state for step in store.steps("shop")] == ["interrupted", "done"]


def test_operations_that_nobody_planned_are_written_with_their_end(store: Store):
    store.conclude("shop", a_memory(), (Done(a_start(), "done"),), at())
    assert [step.state for step in store.steps("shop")] == ["done"]


def test_the_last_fifty_releases_and_those_that_memory_names_are_loaded(path: Path, clock: MovedClock):
    memory = a_memory(60, live=2, pin=Pin(release=3, digest="d"), warm=Warm(release=4, until=at()), failed=5)
    with running(path, clock) as store:
        for number in range(1, 61):
            store.intend("shop", a_decision(memory=memory, releases=(a_release(number),)), at())
        expected = [2, 3, 4, 5, *range(11, 61)]
        assert sorted(store.load("shop")[1]) == expected
    with running(path, clock) as store:
        assert sorted(store.load("shop")[1]) == expected
        assert [release.number for release in store.releases("shop")][:2] == [60, 59]
        assert store.release("shop", 1) is None


def test_outcomes_are_told_once(store: Store):
    store.intend("shop", a_decision(notes=()), at())
    failed = a_release(outcome="failed", message="not ready in time\nlog line")
    for _ in range(2):
        store.intend("shop", a_decision(releases=(failed,), notes=()), at(1))
    told = [(event.level, event.text) for event in store.events() if event.kind == "release"]
    assert told == [("info", "release 1: rolling out: spec changed"), ("error", "release 1: failed: not ready in time")]


def test_the_picture_stays_as_the_disk_has_it_when_a_write_fails(store: Store):
    store.intend("shop", a_decision(), at())
    before, rows = store.load("shop"), sql(store, "SELECT * FROM apps")
    # A value that SQLite cannot hold makes the last statement of the transaction fail.
    bad = Answer(order=2**70, result="done")
    broken = a_decision(memory=a_memory(suspended=True), answers=(bad,))
    with pytest.raises(Broken):
        store.intend("shop", broken, at(1))
    assert (store.load("shop"), sql(store, "SELECT * FROM apps")) == (before, rows)
    assert store.events()[-1].text == "new spec"


def test_loading_a_known_app_takes_no_query(store: Store):
    store.intend("shop", a_decision(releases=tuple(a_release(number) for number in range(1, 51))), at())
    store.load("shop")
    start = time.perf_counter()
    for _ in range(1000):
        store.load("shop")
    assert time.perf_counter() - start < 1.0


def test_change_numbers_only_grow(path: Path, clock: MovedClock):
    taken = []
    for _ in range(3):
        with running(path, clock) as store:
            taken += [store.next_change(), store.order(an_order()).id, store.next_change()]
        clock.move(-86400)
    assert taken == sorted(set(taken))


def test_change_numbers_grow_across_a_lost_database_and_an_old_copy(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        store.backup(path.with_name("copy.db"))
        for _ in range(20):
            last = store.next_change()
            clock.move(1)
    for lose in (path.unlink, lambda: path.with_name("copy.db").replace(path)):
        lose()
        clock.move(1)
        with running(path, clock) as store:
            assert store.next_change() > last


def test_numbers_are_small_and_begin_at_one(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        assert [store.next_change() for _ in range(3)] == [1, 2, 3]
        assert store.add_event("shop", "note", "info", "hello").id == 1
    with running(path, clock) as store:
        assert store.next_change() == 4, "a restart leaves nothing out"


def test_an_older_database_goes_on_from_its_numbers(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        sql(store, "INSERT INTO counters VALUES ('change', 1795551196)")
    path.with_name("numbers").unlink()
    with running(path, clock) as store:
        assert store.next_change() == 1795551197
    path.unlink()
    with running(path, clock) as store:
        assert store.next_change() == 1795551198


@pytest.mark.parametrize("text", ["", "no numbers", "change=x", "change=9\n", "\0" * 80])
def test_a_numbers_file_that_cannot_be_read_leaves_the_database_as_it_is(path: Path, clock: MovedClock, text: str):
    with running(path, clock) as store:
        last = store.next_change()
    path.with_name("numbers").write_text(text)
    with running(path, clock) as store:
        assert store.next_change() in (last + 1, 10)
        assert store.next_change() in (last + 2, 11)


def test_a_numbers_file_that_cannot_be_written_stops_nothing(path: Path, clock: MovedClock):
    path.with_name("numbers").mkdir()
    with running(path, clock) as store:
        assert [store.next_change() for _ in range(3)] == [1, 2, 3]


def test_events_grow_across_a_lost_database(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        last = [store.add_event("shop", "note", "info", "hello").id for _ in range(5)][-1]
    path.unlink()
    with running(path, clock) as store:
        assert store.add_event("shop", "note", "info", "again").id == last + 1


def test_text_that_is_no_text_is_kept_as_well_as_it_can_be(path: Path, clock: MovedClock):
    odd = "log \udc80\x00\ud800 end"
    memory = a_memory(tails={"id1": (odd,)}, rollout=None)
    with running(path, clock) as store:
        store.intend(
            "shop", a_decision(a_start(), memory=memory, releases=(a_release(message=odd),), notes=(Note(odd),)), at()
        )
        store.conclude("shop", memory, (Done(a_start(), "failed", odd),), at())
        store.order(an_order(message=odd))
    with running(path, clock) as store:
        assert store.load("shop")[0] == memory
        assert store.steps("shop")[0].outcome == "log ?\x00? end"


def test_standings_are_kept_and_written_when_they_change(path: Path, clock: MovedClock):
    from controller.plan.situation import Standing, Wanted

    shop = Standing(app="shop", wanted=Wanted(spec=a_spec(), digest="d", file="shop.yaml"), invalid="shop.yaml:1: x")
    other = Standing(app="other", gone=True)
    with running(path, clock) as store:
        store.save_standing(shop, 1)
        store.save_standing(other, 2)
        before = writes(store)
        store.save_standing(shop, 3)
        assert writes(store) == before
    with running(path, clock) as store:
        assert store.load_standings() == {"other": other, "shop": shop}
        store.drop_standing("other")
        store.save_standing(replace(shop, invalid=""), 4)
    with running(path, clock) as store:
        assert store.load_standings() == {"shop": replace(shop, invalid="")}


def test_a_pass_over_an_app_that_nobody_asks_for_writes_nothing(store: Store):
    before = writes(store)
    store.intend("nobody", Decision(memory=Memory()), at())
    store.conclude("nobody", Memory(), (), at())
    assert (writes(store), store.apps(), store.all_apps()) == (before, (), ())
