"""Streams: they resume, they end with their client, and they never take more threads than they may."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest

from controller.api.streams import LIMIT
from controller.cli.dial import open_socket
from controller.cli.target import Target
from controller.cli.wire import Rejected, Wire
from controller.world.model import Replica, World
from tests.api.stage import Session, Stage
from tests.api.test_apps import wait_for


@contextmanager
def following(client: httpx.Client, path: str, **more: Any) -> Iterator[Iterator[str]]:
    with client.stream("GET", path, **more) as response:
        assert response.status_code == 200, response.read()
        yield response.iter_lines()


def next_event(lines: Iterator[str]) -> dict[str, Any]:
    for line in lines:
        if line.startswith("data:"):
            return dict(json.loads(line[5:]))
    raise AssertionError("the stream ended")


def test_events_come_as_they_are_stored(stage: Stage, client: httpx.Client) -> None:
    with following(client, "/v1/events") as lines:
        assert next(lines) == ": oton"
        stage.store.add_event("shop", "note", "info", "first")
        stage.store.add_event("shop", "note", "warning", "second")
        first, second = next_event(lines), next_event(lines)
    assert (first["text"], second["text"]) == ("first", "second")
    assert second["id"] > first["id"]
    assert second["level"] == "warning"
    wait_for(lambda: len(stage.api.state.wakers) == 0)


def test_a_follower_that_comes_back_misses_nothing_and_sees_nothing_twice(stage: Stage, client: httpx.Client) -> None:
    ids = [stage.store.add_event("shop", "note", "info", f"number {number}").id for number in range(500)]
    with following(client, "/v1/events", headers={"Last-Event-ID": str(ids[99])}) as lines:
        seen = [next_event(lines)["id"] for _ in range(400)]
        later = stage.store.add_event("shop", "note", "info", "later")
        seen.append(next_event(lines)["id"])
    assert seen == [*ids[100:], later.id]


def test_a_follower_of_one_app_hears_of_that_one_only(stage: Stage, client: httpx.Client) -> None:
    with following(client, "/v1/events?app=shop") as lines:
        assert next(lines) == ": oton"
        stage.store.add_event("other", "note", "info", "not this")
        stage.store.add_event("shop", "note", "info", "this")
        assert next_event(lines)["text"] == "this"


def test_past_events_are_a_list(stage: Stage, client: httpx.Client) -> None:
    for number in range(5):
        stage.store.add_event("shop", "note", "info", f"number {number}")
    rows = client.get("/v1/events", params={"follow": "false", "limit": 2}).json()
    assert [row["text"] for row in rows] == ["number 3", "number 4"]


def with_logs(stage: Stage) -> list[Replica]:
    stage.bring_up(replicas=2)
    replicas = list(stage.worlds["shop"].replicas)
    stage.engine.containers["shop"] = tuple(replicas)
    stage.engine.written = {
        replicas[0].id: [(1.0, "one"), (3.0, "three")],
        replicas[1].id: [(2.0, "two"), (4.0, "four")],
    }
    return replicas


def test_logs_of_all_replicas_are_merged_by_time(stage: Stage, client: httpx.Client) -> None:
    with_logs(stage)
    lines = [json.loads(line) for line in client.get("/v1/apps/shop/logs").text.splitlines()]
    assert [line["text"] for line in lines] == ["one", "two", "three", "four"]
    assert lines[0]["replica"] == "shop-r1-1"
    last = client.get("/v1/apps/shop/logs?lines=1").text.splitlines()
    assert [json.loads(line)["text"] for line in last] == ["four"]


def test_following_goes_on_and_ends_with_its_client(stage: Stage, client: httpx.Client) -> None:
    with_logs(stage)
    with following(client, "/v1/apps/shop/logs?follow=true&lines=1") as lines:
        assert {json.loads(next(lines))["text"] for _ in range(2)} == {"three", "four"}
        stage.engine.open_logs[0].write(5.0, "five")
        assert json.loads(next(lines))["text"] == "five"
    for log in stage.engine.open_logs:
        assert log.closed.wait(10.0)


def test_following_takes_up_replicas_that_come_later(stage: Stage, client: httpx.Client) -> None:
    with_logs(stage)
    with following(client, "/v1/apps/shop/logs?follow=true&lines=0") as lines:
        wait_for(lambda: len(stage.engine.open_logs) == 2)
        stage.bring_up(image="shop:2", replicas=1)
        new = stage.worlds["shop"].replicas[0]
        stage.engine.written[new.id] = [(9.0, "from the new one")]
        line = json.loads(next(lines))
    assert (line["text"], line["release"]) == ("from the new one", 2)


def test_following_an_app_without_containers_waits_for_one_and_keeps_nobody_else_waiting(
    stage: Stage, client: httpx.Client
) -> None:
    stage.bring_up()
    stage.decide("shop", world=World())
    with stage.client() as other, following(client, "/v1/apps/shop/logs?follow=true&lines=0") as lines:
        assert other.get("/healthz", timeout=5).status_code == 200
        stage.bring_up(image="shop:2")
        new = stage.worlds["shop"].replicas[0]
        stage.engine.written[new.id] = [(9.0, "it came")]
        assert json.loads(next(lines))["text"] == "it came"


def test_an_app_without_containers_has_no_logs_and_says_what_to_do(stage: Stage, client: httpx.Client) -> None:
    stage.bring_up()
    answer = client.get("/v1/apps/shop/logs")
    assert answer.status_code == 404
    assert "oton history shop" in answer.json()["detail"]


def test_streams_beyond_the_limit_are_turned_away_and_come_back_once_others_end(
    stage: Stage, client: httpx.Client
) -> None:
    with_logs(stage)
    with stage.client() as other:
        opened = []
        for _ in range(LIMIT // 2):
            stream = other.stream("GET", "/v1/apps/shop/logs?follow=true&lines=1")
            lines = stream.__enter__().iter_lines()
            next(lines)
            opened.append((stream, lines))
        turned_away = client.get("/v1/apps/shop/logs?follow=true")
        assert (turned_away.status_code, turned_away.json()["type"]) == (503, "/problems/busy")
        for stream, _ in opened:
            stream.__exit__(None, None, None)
    wait_for(lambda: stage.api.state.threads.running == 0)
    assert client.get("/v1/apps/shop/logs").status_code == 200


def wire(stage: Stage, path: str) -> Wire:
    return Wire(open_socket(Target(kind="unix", place=str(stage.socket)), 5.0), "oton", path, {})


def test_exec_carries_bytes_both_ways_and_ends_with_the_commands_code(stage: Stage) -> None:
    stage.bring_up()
    stage.engine.start_session = lambda command: Session(bytes.upper, code=42)
    connection = wire(stage, "/v1/apps/shop/exec")
    connection.send(json.dumps({"command": ["cat"], "tty": True, "size": [120, 40]}))
    assert connection.receive() == b"\x02to stderr\n"
    connection.send(b"hello \xff")
    assert connection.receive() == b"\x01HELLO \xff"
    connection.send(json.dumps({"size": [100, 30]}))
    connection.send(b"")
    assert json.loads(connection.receive() or "") == {"exit": 42}
    assert connection.receive() is None
    connection.close()
    [session] = stage.engine.sessions
    assert session.closed.wait(10.0)
    assert session.sizes == [(40, 120), (30, 100)]


def test_a_client_that_vanishes_takes_its_process_and_threads_with_it(stage: Stage) -> None:
    stage.bring_up()
    connection = wire(stage, "/v1/apps/shop/run")
    connection.send(json.dumps({"command": ["sleep", "1000"]}))
    connection.receive()
    connection.close()
    [session] = stage.engine.sessions
    assert session.closed.wait(10.0)
    wait_for(lambda: stage.api.state.threads.running == 0)
    assert (stage.engine.plans[0].kind, stage.engine.plans[0].command) == ("run", ("sleep", "1000"))


def test_what_cannot_start_says_why_with_the_shells_code(stage: Stage) -> None:
    from controller.engine.streams import NotStarted

    def refuse(command: object) -> Session:
        raise NotStarted("exec: no-such: executable file not found in $PATH")

    stage.bring_up()
    stage.engine.start_session = refuse
    connection = wire(stage, "/v1/apps/shop/exec")
    connection.send(json.dumps({"command": ["no-such"]}))
    ended = json.loads(connection.receive() or "")
    connection.close()
    assert ended["exit"] == 127
    assert "not found" in ended["error"]


@pytest.mark.parametrize("first", ["no json", "{}", '{"command": []}', '{"command": "ls"}'])
def test_a_first_message_that_cannot_be_read_is_answered(stage: Stage, first: str) -> None:
    stage.bring_up()
    connection = wire(stage, "/v1/apps/shop/exec")
    connection.send(first)
    assert json.loads(connection.receive() or "")["exit"] == 125
    connection.close()


def test_exec_in_an_unknown_app_is_a_problem(stage: Stage) -> None:
    with pytest.raises(Rejected) as refused:
        wire(stage, "/v1/apps/nope/exec")
    assert refused.value.status == 404
    assert json.loads(refused.value.body)["type"] == "/problems/no-such-app"


def test_stopping_ends_followers_at_once(tmp_path: Any) -> None:
    with Stage(tmp_path).open() as opened:
        opened.bring_up()
        client = opened.client()
        stream = client.stream("GET", "/v1/events")
        response = stream.__enter__()
        lines = response.iter_lines()
        assert next(lines) == ": oton"
        ended = threading.Event()

        def read() -> None:
            with suppress(httpx.HTTPError):
                for _ in lines:
                    pass
            ended.set()

        reader = threading.Thread(target=read)
        reader.start()
    assert ended.wait(10.0)
    reader.join()
    client.close()
