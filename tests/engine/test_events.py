"""Events ring; a stream that was cut, a frozen engine and one that comes back are met without a word lost."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from controller.engine import events as room
from controller.engine.calls import Calls
from controller.engine.events import Events
from controller.engine.sight import Sight
from controller.errors import Retry
from tests.engine.kit import Bench, a_bench, unique, wait_for
from tests.engine.relay import Relay, a_relay
from tests.engine.sham import a_sham

pytestmark = pytest.mark.engine


@pytest.fixture
def followed(relay: Relay):
    """A bench whose engine is reached through the relay, with its loops running."""
    with a_bench(docker_host=relay.host) as bench:
        bench.follow(bench.engine.run_events, bench.engine.run_pulse)
        wait_for(lambda: "" in bench.rung)
        yield bench


def test_each_event_rings_its_app_and_what_is_seen_next_is_new(followed: Bench) -> None:
    made = followed.engine.start(followed.plan())
    assert followed.engine.observe(followed.app)[0].state == "running"
    followed.rung.clear()
    followed.client.kill(made)
    wait_for(lambda: followed.app in followed.rung)
    wait_for(lambda: followed.engine.observe(followed.app)[0].state == "exited")


def test_a_change_of_health_rings(followed: Bench) -> None:
    health = {"command": "test -f /tmp/good", "interval": "100ms", "failures": 1}
    made = followed.engine.start(followed.plan(health=health))
    wait_for(lambda: followed.engine.observe(followed.app)[0].health == "unhealthy")
    followed.rung.clear()
    followed.client.exec_start(followed.client.exec_create(made, ["touch", "/tmp/good"])["Id"])
    wait_for(lambda: followed.app in followed.rung)
    assert followed.engine.observe(followed.app)[0].health == "healthy"


def test_strangers_ring_nothing(followed: Bench) -> None:
    name = unique("oton-test-stranger")
    followed.rung.clear()
    made = followed.client.create_container("oton-test-engine:1", name=name, labels={"oton.app": followed.app})["Id"]
    followed.client.start(made)
    followed.client.remove_container(made, force=True)
    mine = followed.engine.start(followed.plan(f"blog-{followed.app}"))
    followed.engine.kill(mine)
    wait_for(lambda: f"blog-{followed.app}" in followed.rung)
    assert followed.app not in followed.rung


def test_a_cut_stream_is_opened_anew_and_what_was_missed_is_seen(followed: Bench, relay: Relay) -> None:
    made = followed.engine.start(followed.plan())
    assert followed.engine.observe(followed.app)[0].state == "running"
    relay.go_away()
    followed.client.kill(made)
    wait_for(lambda: followed.client.inspect_container(made)["State"]["Status"] == "exited")
    followed.rung.clear()
    relay.listen()
    wait_for(lambda: "" in followed.rung)
    assert wait_for(lambda: _seen(followed))[0].state == "exited"
    followed.rung.clear()
    followed.engine.restart(made)
    wait_for(lambda: followed.app in followed.rung)


def _seen(bench: Bench):
    try:
        return bench.engine.observe(bench.app)
    except Retry:
        return ()


def test_an_engine_that_is_away_is_told_and_its_return_rings_for_all(monkeypatch, relay: Relay) -> None:
    monkeypatch.setattr(room, "PULSE_S", 0.1)
    with a_bench(docker_host=relay.host) as bench:
        told: list[bool] = []
        bench.engine.on_reachable(lambda up, why: told.append(up))
        bench.follow(bench.engine.run_events, bench.engine.run_pulse)
        wait_for(bench.engine.reachable)
        relay.go_away()
        wait_for(lambda: told[-1] is False)
        with pytest.raises(Retry, match="cannot be reached"):
            bench.engine.observe(bench.app)
        bench.rung.clear()
        relay.listen()
        wait_for(lambda: told[-1] is True)
        wait_for(lambda: "" in bench.rung)


def test_a_frozen_engine_is_noticed_within_fifteen_seconds_and_calls_end(monkeypatch, relay: Relay) -> None:
    monkeypatch.setattr(room, "PULSE_S", 0.2)
    monkeypatch.setattr("controller.engine.calls.PING_S", 0.5)
    monkeypatch.setattr("controller.engine.sight.READ_S", 1.0)
    with a_bench(docker_host=relay.host) as bench:
        bench.follow(bench.engine.run_events, bench.engine.run_pulse)
        wait_for(bench.engine.reachable)
        with relay.freeze():
            wait_for(lambda: not bench.engine.reachable(), within_s=8)
            began = time.monotonic()
            with pytest.raises(Retry):
                bench.engine.observe(bench.app)
            assert time.monotonic() - began < 2
        wait_for(bench.engine.reachable)


def test_an_engine_that_goes_again_just_after_it_came_back_is_told_again(monkeypatch) -> None:
    monkeypatch.setattr(room, "PULSE_S", 0.02)
    pings, believed = iter([True, False, False]), iter([True, True])
    rung: list[int] = []
    stop = threading.Event()
    asked = 0

    def ping() -> bool:
        nonlocal asked
        asked += 1
        answer = next(pings, None)
        if answer is None:
            stop.set()
        return bool(answer)

    # Between the two failed pings some other call was answered, and its pass showed the engine as there.
    calls = SimpleNamespace(ping=ping, reachable=lambda: next(believed, False))
    sight = SimpleNamespace(doubt=lambda: None)
    Events(calls, "me", sight, lambda app: rung.append(asked)).pulse(stop)
    assert rung == [2, 3]


def test_a_resync_rings_for_all_though_nothing_happened(monkeypatch) -> None:
    monkeypatch.setattr(room, "PULSE_S", 0.02)
    monkeypatch.setattr(room, "RESYNC_S", 0.1)
    with a_sham() as sham:
        rung: list[str] = []
        calls = Calls(sham.host)
        events = Events(calls, "me", Sight(calls, "me"), rung.append)
        stop = threading.Event()
        thread = threading.Thread(target=events.pulse, args=(stop,))
        thread.start()
        wait_for(lambda: rung.count("") >= 3)
        stop.set()
        thread.join(5)
        assert not thread.is_alive()


def test_doubled_reordered_and_broken_events_do_no_harm() -> None:
    def event(app: str | None, container: str = "c1") -> dict:
        attributes = {"oton.app": app} if app else {}
        return {"Type": "container", "Action": "die", "Actor": {"ID": container, "Attributes": attributes}}

    with a_sham() as sham:
        rung: list[str] = []
        served = threading.Event()

        def stream(call) -> None:
            if served.is_set():
                call.hang_up()
                return
            served.set()
            call.stream(event("shop"), event("shop"), event("blog"), {"Type": "container"}, event(None))

        sham.on("GET .*/events", stream)
        calls = Calls(sham.host)
        events = Events(calls, "me", Sight(calls, "me"), rung.append)
        stop = threading.Event()
        thread = threading.Thread(target=events.run, args=(stop,))
        thread.start()
        wait_for(lambda: rung.count("shop") == 2 and "blog" in rung)
        stop.set()
        thread.join(10)
        assert not thread.is_alive()
        assert rung[0] == ""
        assert '"oton.instance=me"' in sham.calls[-1].line or "oton.instance%3Dme" in sham.lines("/events")[0]


def test_a_stop_while_the_stream_is_being_opened_is_not_missed() -> None:
    with a_sham() as sham:
        calls = Calls(sham.host)
        events = Events(calls, "me", Sight(calls, "me"), lambda app: None)
        stop = threading.Event()

        def stream(call) -> None:
            stop.set()
            events._close()  # as `pulse` does with the stop, which finds no stream yet
            call.handler.send_response(200)
            call.handler.send_header("Transfer-Encoding", "chunked")
            call.handler.end_headers()
            call.handler.wfile.flush()
            threading.Event().wait(8)

        sham.on("GET .*/events", stream)
        thread = threading.Thread(target=events.run, args=(stop,))
        thread.start()
        thread.join(3)
        assert not thread.is_alive()


def test_the_loops_end_soon_after_they_are_told() -> None:
    with a_relay() as relay, a_bench(docker_host=relay.host) as bench:
        stop = threading.Event()
        runs = (bench.engine.run_events, bench.engine.run_pulse, bench.engine.run_puller)
        threads = [threading.Thread(target=run, args=(stop,)) for run in runs]
        for thread in threads:
            thread.start()
        wait_for(lambda: "" in bench.rung)
        stop.set()
        for thread in threads:
            thread.join(room.PULSE_S - 0.5)
            assert not thread.is_alive()
