"""F12, F14, F15: an engine that freezes, is not there yet, loses replies; visitors notice nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import open_house
from tests.parts.frozen import engine_relay
from tests.parts.journal import Journal
from tests.parts.relay import Relay
from tests.parts.service import Service, engine
from tests.parts.stage import Stage
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

REPORTED_S = 15.0
AWAY = "the container engine cannot be reached: apps keep serving"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with engine_relay(tmp_path_factory.mktemp("relay") / "engine.sock") as relay:
        yield relay


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, relay: Relay) -> Iterator[Service]:
    """A service whose engine is behind the relay."""
    with open_house(tmp_path_factory.mktemp("house"), {"DOCKER_HOST": relay.url}) as service:
        try:
            yield service
        finally:
            relay.resume()


CALLS = {
    "create": rb"^POST [^ ]*/containers/create",
    "start": rb"^POST [^ ]*/containers/[^ ]*/start",
    "stop": rb"^POST [^ ]*/containers/[^ ]*/(kill|stop)",
    "remove": rb"^DELETE [^ ]*/containers/",
}


@pytest.mark.slow
def test_each_lost_reply_leaves_exactly_the_containers_that_are_wanted(
    house: Service, relay: Relay, stage: Callable[..., Stage]
) -> None:
    shop = stage("lost", replicas=2)
    shop.deploy("v1")
    with Journal(house) as journal, shop.load():
        for number, (call, pattern) in enumerate(CALLS.items()):
            lost = relay.lost_replies
            relay.lose_reply(pattern)
            shop.write("v2" if number % 2 == 0 else "v1")
            wait_for(lambda before=lost: relay.lost_replies > before, 20, f"the reply to {call} is lost")
            shop.wait_live("v2" if number % 2 == 0 else "v1")
    journal.check_always_routed(shop.name, at_least=2)
    journal.check_never_stopped_while_routed()
    assert journal.most_running(shop.name, 2) <= 2 + 1 + 2
    assert len(journal.actions(shop.name, "create")) == 2 * len(CALLS), "none was made twice"
    assert [row["outcome"] for row in shop.releases()] == ["live", *["superseded"] * len(CALLS)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "frozen_s", [pytest.param(0, id="until-told", marks=pytest.mark.core), pytest.param(90, id="90s")]
)
def test_a_frozen_engine_is_told_and_touches_no_visitor(
    house: Service, relay: Relay, stage: Callable[..., Stage], frozen_s: float
) -> None:
    shop = stage("frozen", replicas=2)
    shop.deploy("v1")
    before = shop.running()
    with Journal(house) as journal, shop.load() as client:
        relay.stall()
        frozen = time.monotonic()
        try:
            shop.wait(lambda row: row["health"] == "unknown", REPORTED_S + 1)
            told_s = time.monotonic() - frozen
            shop.write("v2")
            shop.write("v3")
            shop.write("v2")
            end = frozen + frozen_s
            wait_for(lambda: time.monotonic() > end, frozen_s + 5, "it was frozen long enough", look_s=0.5)
            assert shop.running() == before, "nothing happened meanwhile"
            assert set(client.report().versions()) == {"v1"}
        finally:
            relay.resume()
        shop.wait_live("v2")
    print(f"told after {told_s:.1f} s")
    assert (told(house, AWAY), told(house, "answers again")) == (1, 1)
    assert told_s <= REPORTED_S
    journal.check_always_routed(shop.name, at_least=2)
    journal.check_never_stopped_while_routed()
    assert len(journal.actions(shop.name, "create")) == 2, "nothing was replayed"


@pytest.mark.core
@pytest.mark.slow
def test_a_cut_event_stream_costs_time_and_nothing_else(
    house: Service, relay: Relay, stage: Callable[..., Stage]
) -> None:
    shop = stage("cut", replicas=2)
    shop.deploy("v1")
    with shop.load(kept=2, fresh=0):
        relay.reset_all()
        shop.deploy("v2")
        relay.reset_all()
        wait_for(house.is_ready, 20, "the engine is reached again")
    victim = min(shop.running())
    with engine() as outside:
        outside.kill(victim)
    shop.wait(lambda _: victim not in shop.running())
    shop.wait_tidy()


def told(house: Service, text: str) -> int:
    return house.log_file.read_text().count(text)


def test_a_service_that_starts_before_its_engine_says_so_and_recovers(tmp_path: Path) -> None:
    place = tmp_path / "later" / "engine.sock"
    house = Service(tmp_path / "house", {"DOCKER_HOST": f"unix://{place}"})
    try:
        house.start(wait=False)
        wait_for(house.is_listening, 30, "the API answers")
        shop = Stage(house, "shop", replicas=1)
        shop.write("v1")
        row = shop.wait(lambda row: row["health"] == "unknown")
        assert row["release"] is None
        assert house.api("GET", "/readyz").status_code == 503
        assert house.api("GET", "/healthz").status_code == 200
        assert house.oton("status").stderr.startswith("the container engine cannot be reached")
        wait_for(lambda: house.get(host=shop.host).status_code == 503, 20, "its route exists and has nobody to ask")
        with engine_relay(place):
            shop.wait_live("v1")
            assert shop.version() == "v1"
            wait_for(house.is_ready, 10, "the service is ready")
            assert house.oton("status").stderr == ""
            shop.close()
        wait_for(lambda: told(house, AWAY) == 2, REPORTED_S + 1, "the second loss is told")
        assert told(house, "answers again") == 1
        assert [
            one["level"] for one in house.api("GET", "/v1/events?follow=false").json() if one["kind"] == "engine"
        ] == ["warning", "info", "warning"]
    finally:
        print(house.log_tail(60))
        house.close()
