"""One pass after the other, on a fake engine and the real store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.errors import Retry
from controller.loop.reconcile import LONGEST_WAIT_S, backoff_s
from controller.plan.situation import Decision, Situation
from controller.routing.table import AppRoutes
from tests.builders import a_spec
from tests.fakes.engine import Image
from tests.loop.house import House, a_house


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_house(tmp_path) as opened:
        yield opened


def test_a_spec_becomes_containers_routes_and_history(house: House) -> None:
    house.ask(a_spec(replicas=2))
    house.settle()
    assert [r.name for r in house.engine.replicas("shop")] == ["shop-r1-1", "shop-r1-2"]
    assert len(house.publisher.entries["shop"].upstreams) == 2
    assert house.releases()[1].outcome == "live"
    assert [s.text.split()[0] for s in house.store.steps("shop", 1)][:2] == ["image", "publish"]


def test_a_pass_with_nothing_to_do_writes_nothing(house: House) -> None:
    house.ask(a_spec())
    house.settle()
    events, calls, versions = house.store.last_event_id(), len(house.engine.writes), house.publisher.versions
    for _ in range(5):
        assert house.pass_once().in_s is None
    assert (house.store.last_event_id(), len(house.engine.writes), house.publisher.versions) == (
        events,
        calls,
        versions,
    )


def test_what_a_pass_decided_is_shown_only_once_it_can_be_looked_up(house: House) -> None:
    shown: list[set[int]] = []

    def watch(situation: Situation, decision: Decision) -> None:
        shown.append({one.number for one in decision.releases})
        assert shown[-1] <= set(house.releases())

    house.ports = replace(house.ports, watch=watch)
    house.ask(a_spec())
    house.settle()
    assert {1} in shown


def test_what_could_not_be_written_is_not_shown_but_the_world_is(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Decision] = []
    house.ports = replace(house.ports, watch=lambda _situation, decision: shown.append(decision))
    house.ask(a_spec())

    def no_room(*_: object) -> None:
        raise Retry("the disk is full")

    monkeypatch.setattr(house.store, "intend", no_room)
    with pytest.raises(Retry):
        house.pass_once()
    assert shown == [Decision(memory=house.memory())]


def test_after_a_restart_of_ours_nothing_is_written_and_nothing_published(tmp_path: Path) -> None:
    with a_house(tmp_path) as first:
        first.ask(a_spec(replicas=2))
        first.settle()
        engine, publisher = first.engine, first.publisher
    calls, versions = len(engine.writes), publisher.versions
    with a_house(tmp_path) as second:
        second.engine, second.publisher = engine, publisher
        second.__post_init__()
        second.ask(a_spec(replicas=2))
        second.settle()
    assert (len(engine.writes), publisher.versions) == (calls, versions)


@pytest.mark.parametrize("verb", ["create", "start", "stop", "remove"])
@pytest.mark.parametrize("after", [False, True])
def test_a_call_that_fails_or_whose_answer_is_lost_costs_time_only(house: House, verb: str, *, after: bool) -> None:
    house.ask(a_spec(replicas=2))
    house.settle()
    house.engine.fail_next(2, verb=verb, after=after)
    house.ask(a_spec(replicas=2, image="shop:2"))
    house.settle()
    names = [(r.release, r.index, r.state) for r in house.engine.replicas("shop")]
    assert names == [(2, 1, "running"), (2, 2, "running")]
    assert house.releases()[2].outcome == "live"


def test_the_first_operation_that_fails_ends_the_pass_and_the_rest_is_not_tried(house: House) -> None:
    house.ask(a_spec(replicas=2, strategy="blue_green"))
    house.engine.fail_next(1, verb="create")
    for _ in range(10):
        if house.pass_once().was_trouble:
            break
    states = [s.state for s in house.store.steps("shop", 1) if s.text.startswith("start")]
    assert states == ["failed", "not_tried"]


def test_a_start_that_the_engine_refuses_fails_the_release_at_once(house: House) -> None:
    house.ask(a_spec())
    house.settle()
    house.engine.images["shop:2"] = Image(id="sha256:two", refuses='exec: "gunicorn": not found')
    house.ask(a_spec(image="shop:2"))
    house.settle()
    assert house.releases()[2].outcome == "failed"
    assert "gunicorn" in house.releases()[2].message
    assert house.memory().live == 1


def test_an_engine_that_is_away_pauses_everything_and_breaks_nothing(house: House) -> None:
    house.ask(a_spec())
    house.settle()
    versions = house.publisher.versions
    house.engine.up = False
    house.ask(a_spec(image="shop:2"))
    for _ in range(3):
        assert house.pass_once().in_s == 1.0
    assert house.publisher.versions == versions
    house.engine.up = True
    house.settle()
    assert house.memory().live == 2


def test_a_publisher_that_cannot_write_now_is_asked_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.ask(a_spec())
    said: list[AppRoutes | None] = []

    def full(_app: str, routes: AppRoutes | None) -> None:
        said.append(routes)
        raise Retry("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(house.publisher, "publish", full)
        assert house.pass_once().was_trouble
        assert said
    house.settle()
    assert house.memory().live == 1


def test_a_secret_without_a_value_fails_the_release_and_says_how_to_set_it(house: House) -> None:
    house.ask(a_spec(secrets=["DATABASE_URL"]))
    house.settle()
    message = house.releases()[1].message
    assert "DATABASE_URL" in message
    assert "oton secret set shop DATABASE_URL" in message


def test_an_order_is_answered_once_and_told_to_whoever_asks(house: House) -> None:
    house.ask(a_spec())
    house.settle()
    order = house.order("promote")
    house.settle()
    answer = house.store.answer(order)
    assert answer is not None
    assert (answer.result, answer.text) == ("conflict", "nothing to promote: no rollout is waiting for promotion")


def test_probes_of_replicas_that_are_to_stop_end(house: House) -> None:
    house.ask(a_spec())
    house.settle()
    old = house.engine.replicas("shop")[0].id
    house.engine.images["shop:1"] = Image(id=house.engine.replicas("shop")[0].image_id, ignores_stop=True)
    house.ask(a_spec(image="shop:2", stop_grace="1h"))
    for _ in range(30):
        house.pass_once()
        if old in house.memory().stopping:
            break
    house.pass_once()
    assert old in house.memory().stopping
    assert old not in {t.replica for t in house.prober.watched["shop"]}


def test_the_wait_between_attempts_grows_with_jitter_up_to_half_a_minute() -> None:
    waits = [[backoff_s(attempt) for _ in range(50)] for attempt in (1, 4, 20)]
    assert max(waits[0]) <= 0.2 * 2 + 0.01
    assert max(waits[1]) > max(waits[0])
    assert max(waits[2]) <= LONGEST_WAIT_S
    assert len(set(waits[1])) > 10


def test_hundreds_of_apps_are_passed_over_in_seconds(house: House) -> None:
    names = [f"app-{n}" for n in range(100)]
    for name in names:
        house.ask(a_spec(name=name, replicas=2, routes=[{"host": f"{name}.example.com"}]))
        house.settle(name)
    before = len(house.engine.writes)
    for name in names:
        assert house.pass_once(name).in_s is None
    assert len(house.engine.writes) == before
