"""Every trouble with the engine is one of ours, comes in time, and says what to do."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.engine import calls as room
from controller.engine.calls import Calls, Gone
from controller.errors import ControllerError, Refused, Retry, Stale
from tests.engine.kit import wait_for
from tests.engine.sham import Sham, a_sham


@pytest.fixture
def sham() -> Iterator[Sham]:
    with a_sham() as made:
        yield made


def failing(sham: Sham, status: int, message: str) -> ControllerError:
    """Return what becomes of this answer to a start."""
    sham.on("POST .*/start", lambda call: call.reply(status, {"message": message}))
    calls = Calls(sham.host)
    with pytest.raises(ControllerError) as caught, calls.doing("start shop-r1-1") as client:
        client.start("abc")
    assert calls.reachable()
    return caught.value


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (404, "No such container: abc", Gone),
        (404, "network oton not found", Stale),
        (409, "Container abc is not running", Stale),
        (400, "invalid reference format", Refused),
        (403, "endpoint with name x already exists", Refused),
        (500, "OCI runtime create failed: container_linux.go:380: starting container process caused: exec: x", Refused),
        (500, "error while mounting volume '/x': no such file or directory", Refused),
        (500, "unable to find user nobody: no matching entries in passwd file", Refused),
        (500, "write /var/lib/docker/x: no space left on device", Retry),
        (500, "removal of container abc is already in progress", Retry),
        (500, "something that nobody has seen before", Retry),
        (502, "bad gateway", Retry),
    ],
)
def test_an_answer_of_the_engine_is_judged(sham: Sham, status: int, message: str, kind: type[ControllerError]) -> None:
    error = failing(sham, status, message)
    assert type(error) is kind
    assert "start shop-r1-1" in str(error)


def test_the_layers_of_go_are_taken_off_the_reason(sham: Sham) -> None:
    said = (
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
        'exec: "nope": executable file not found in $PATH: unknown'
    )
    error = failing(sham, 400, said)
    assert str(error) == 'cannot start shop-r1-1: exec: "nope": executable file not found in $PATH'


def test_an_engine_that_is_not_there_says_how_to_have_one(tmp_path) -> None:
    calls = Calls(f"unix://{tmp_path}/none.sock")
    with (
        pytest.raises(Retry, match=r"none\.sock cannot be reached \(No such file or directory\); start it"),
        calls.doing("look") as client,
    ):
        client.containers()
    assert not calls.reachable()
    assert not calls.ping()


def test_a_call_that_hangs_ends_within_its_limit_and_says_nothing_of_the_engine(sham: Sham) -> None:
    let_go, answered = threading.Event(), threading.Event()

    def hang(call) -> None:
        let_go.wait(20)
        answered.set()

    sham.on("GET .*/containers/json", hang)
    calls = Calls(sham.host)
    assert calls.ping()
    with pytest.raises(Retry, match="did not look in time"), calls.doing("look", 0.3) as client:
        client.containers()
    assert not answered.is_set()
    assert calls.reachable()
    let_go.set()


def test_calls_within_one_operation_share_its_time(sham: Sham) -> None:
    asked: list[str] = []

    def slow(call) -> None:
        asked.append(call.line)
        threading.Event().wait(0.25)
        call.reply(200, [])

    sham.on("GET .*/containers/json", slow)
    calls = Calls(sham.host)

    def do_much() -> None:
        with calls.doing("do much", 0.6):
            for _ in range(10):
                with calls.doing("do a part") as client:
                    client.containers()

    with pytest.raises(Retry):
        do_much()
    assert len(asked) <= 3, "what began after its time was over, of ten"
    with calls.doing("do one") as client:
        assert client.containers() == []


def test_an_operation_ends_within_ten_seconds() -> None:
    assert room.OPERATION_S + 0.5 < 10


def test_a_broken_connection_is_retry_and_the_next_call_works(sham: Sham) -> None:
    sham.on("GET .*/containers/json", lambda call: call.hang_up())
    calls = Calls(sham.host)
    with pytest.raises(Retry), calls.doing("look") as client:
        client.containers()
    assert not calls.reachable()
    sham.on("GET .*/containers/json", lambda call: call.reply(200, []))
    with calls.doing("look") as client:
        assert client.containers() == []
    assert calls.reachable()


def test_going_and_coming_is_told_once_each(sham: Sham) -> None:
    told: list[bool] = []
    reasons: list[str] = []
    calls = Calls(sham.host)
    calls.on_reachable = lambda up, why: (told.append(up), reasons.append(why))
    calls.ping()
    calls.ping()
    sham.on("/_ping", lambda call: call.hang_up())
    calls.ping()
    calls.ping()
    sham.on("/_ping", lambda call: call.reply(200, "OK"))
    calls.ping()
    assert told == [True, False, True]
    assert "cannot be reached" in reasons[1]
    assert (reasons[0], reasons[2]) == ("", "")


def test_an_engine_that_answers_too_late_is_told_with_the_reason(sham: Sham, monkeypatch) -> None:
    monkeypatch.setattr(room, "PING_S", 0.1)
    told: list[tuple[bool, str]] = []
    calls = Calls(sham.host)
    calls.on_reachable = lambda up, why: told.append((up, why))
    gate = threading.Event()
    sham.on("/_ping", lambda call: gate.wait(10))
    calls.ping()
    gate.set()
    [(up, why)] = told
    assert not up
    assert "in time" in why


def test_of_many_threads_that_notice_one_tells(sham: Sham) -> None:
    told: list[bool] = []
    calls = Calls(sham.host)
    calls.on_reachable = lambda up, why: told.append(up)
    calls.ping()
    sham.on("/_ping", lambda call: call.hang_up())
    threads = [threading.Thread(target=calls.ping) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert told == [True, False]


def test_an_older_engine_in_its_place_is_spoken_to_in_its_version(sham: Sham) -> None:
    calls = Calls(sham.host)
    assert calls.ping()
    sham.on("/version", lambda call: call.reply(200, {"ApiVersion": "1.40"}))
    too_new = "client version 1.41 is too new. Maximum supported API version is 1.40"
    sham.on("GET /v1.41/containers", lambda call: call.reply(400, {"message": too_new}))
    sham.on("GET /v1.40/containers", lambda call: call.reply(200, []))
    with pytest.raises(Retry), calls.doing("look") as client:
        client.containers()
    with calls.doing("look") as client:
        assert client.containers() == []


def test_the_version_is_asked_once_for_all_threads(sham: Sham) -> None:
    calls = Calls(sham.host)

    def ask() -> None:
        assert calls.ping()

    for _ in range(4):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(5)
    assert len(sham.lines("/version")) == 1


def connections(sham: Sham) -> int:
    """Return how many connections to the sham engine are open."""
    return sum(line.endswith(str(sham.path)) for line in Path("/proc/net/unix").read_text().splitlines()) - 1


def test_however_many_threads_ask_few_connections_stay(sham: Sham) -> None:
    sham.on("GET .*/info", lambda call: call.reply(200, {}))
    calls, end = Calls(sham.host), threading.Event()
    asked: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def live() -> None:
        with calls.doing("ask") as client:
            asked.put(client.info())
        end.wait(20)

    threads = [threading.Thread(target=live) for _ in range(40)]
    try:
        for thread in threads:  # one after the other, as those of the API's pool come to it
            thread.start()
            assert asked.get(timeout=10) == {}
        assert connections(sham) <= room.IDLE
    finally:
        end.set()
        for thread in threads:
            thread.join(20)


def test_asking_about_many_containers_takes_one_connection(sham: Sham) -> None:
    sham.on("GET .*/containers/[0-9]+/json", lambda call: call.reply(200, {"of": call.line}))
    calls = Calls(sham.host)
    for number in range(40):
        with calls.doing("ask") as client:
            assert f"/containers/{number}/json" in client.inspect_container(str(number))["of"]
    assert connections(sham) == 1


def test_of_many_that_ask_at_once_few_connections_stay(sham: Sham) -> None:
    all_there = threading.Barrier(room.IDLE + 4, timeout=20)
    calls = Calls(sham.host)

    def ask() -> None:
        with calls.doing("ask"):
            all_there.wait()

    threads = [threading.Thread(target=ask) for _ in range(room.IDLE + 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(calls._idle) <= room.IDLE
    wait_for(lambda: connections(sham) <= room.IDLE)


def test_a_connection_on_which_a_call_broke_off_is_not_used_again(sham: Sham) -> None:
    late = threading.Event()
    sham.on("GET .*/info", lambda call: (late.wait(5), call.reply(200, {"of": "the call before"})))
    calls = Calls(sham.host)
    with pytest.raises(Retry), calls.doing("ask", 0.3) as client:
        client.info()
    late.set()
    sham.on("GET .*/info", lambda call: call.reply(200, {"of": "this call"}))
    with calls.doing("ask") as client:
        assert client.info() == {"of": "this call"}


def test_a_block_in_a_block_uses_the_same_connection(sham: Sham) -> None:
    calls = Calls(sham.host)
    with calls.doing("one") as outer, calls.doing("two") as inner:
        assert inner is outer
        with pytest.raises(Retry), calls.doing("three", 0.1):
            raise OSError("broken pipe")
    with calls.doing("four") as later:
        assert later is not outer


def test_the_engine_is_found_as_the_docker_cli_finds_it(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert Calls().place == "unix:///var/run/docker.sock"
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    assert Calls().place in ("tcp://10.0.0.1:2375", "http://10.0.0.1:2375")
    assert not Calls().is_local
    assert Calls().is_elsewhere
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:2375")
    assert not Calls().is_elsewhere
    assert Calls("unix:///run/user/1000/docker.sock").place == "unix:///run/user/1000/docker.sock"
