"""What a token opened ends when the token does, and what a client opened ends when the client has gone."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.cli.client import Client
from controller.cli.dial import open_socket
from controller.cli.target import Target
from controller.cli.trouble import Trouble
from controller.cli.wire import Wire
from controller.errors import Refused
from tests.api.stage import DEADLINE_S, Session, Stage
from tests.api.test_apps import SPEC, wait_for
from tests.api.test_streams import with_logs
from tests.api.test_tokens import Bearer, serving

END_S = 10.0
"""Far below the silence of any of these streams."""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path).open() as opened:
        with_logs(opened)
        yield opened


def revoke(stage: Stage) -> None:
    stage.store.tokens.revoke("guest")


def restore(stage: Stage) -> None:
    """Put a database in place in which the token never was, as a restore does."""
    stage.store.tokens._replace_all({})


def expire(_: Stage) -> None:
    """Nothing has to happen: its time has come."""


ENDS: dict[str, tuple[Callable[[Stage], None], float | None]] = {
    "revoked": (revoke, None),
    "expired": (expire, 2.0),
    "gone by a restore": (restore, None),
}
each_end = pytest.mark.parametrize(("end", "ttl_s"), ENDS.values(), ids=ENDS)


def make(stage: Stage, ttl_s: float | None = None, scope: Any = "deploy") -> str:
    return stage.store.tokens.create("guest", scope=scope, ttl_s=ttl_s)[0]


def read_to_the_end(response: httpx.Response) -> threading.Event:
    """Read in a thread; the event is set when the stream has ended, however."""
    ended = threading.Event()

    def read() -> None:
        with suppress(httpx.HTTPError):
            for _ in response.iter_lines():
                pass
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    return ended


@each_end
@pytest.mark.parametrize("path", ["/v1/events", "/v1/apps/shop/logs?follow=true"])
def test_a_stream_ends_with_its_token(
    stage: Stage, end: Callable[[Stage], None], ttl_s: float | None, path: str
) -> None:
    secret = make(stage, ttl_s)
    with stage.client() as client, stage.client() as local, local.stream("GET", path) as kept:
        with client.stream("GET", path, headers={"Authorization": f"Bearer {secret}"}) as response:
            assert response.status_code == 200
            ended = read_to_the_end(response)
            end(stage)
            assert ended.wait(END_S)
        again = client.get("/v1/apps", headers={"Authorization": f"Bearer {secret}"})
        assert again.status_code == 401
        stage.store.add_event("shop", "note", "info", "somebody else's stream goes on")
        if "events" in path:
            assert any("goes on" in line for line in kept.iter_lines())
    wait_for(lambda: len(stage.api.state.wakers) + stage.api.state.threads.running == 0)
    assert len(stage.api.state.gate.admissions) == 0


def wire(stage: Stage, verb: str, secret: str) -> Wire:
    sock = open_socket(Target(kind="unix", place=str(stage.socket)), 5.0)
    return Wire(sock, "oton", f"/v1/apps/shop/{verb}", {"Authorization": f"Bearer {secret}"})


@each_end
@pytest.mark.parametrize("verb", ["exec", "run"])
def test_a_session_ends_with_its_token(
    stage: Stage, end: Callable[[Stage], None], ttl_s: float | None, verb: str
) -> None:
    connection = wire(stage, verb, make(stage, ttl_s))
    connection.send(json.dumps({"command": ["sh"]}))
    assert connection.receive() == b"\x02to stderr\n"
    end(stage)
    assert json.loads(connection.receive() or "") == {"exit": 125, "error": "this token is not valid, or no longer"}
    assert connection.receive() is None
    connection.close()
    assert stage.engine.sessions[0].closed.wait(END_S)
    wait_for(lambda: stage.api.state.threads.running == 0)


class Deaf(Session):
    """A process that reads nothing and writes without end, and whose input is full at once."""

    def __init__(self, is_loud: bool) -> None:
        super().__init__(bytes.upper)
        self._is_loud = is_loud

    def frames(self) -> Iterator[tuple[int, bytes]]:
        yield 2, b"to stderr\n"
        while self._is_loud and not self.closed.is_set():
            yield 1, b"x" * 65536
        self.closed.wait(DEADLINE_S)

    def send(self, data: bytes) -> None:
        self.closed.wait(DEADLINE_S)


@pytest.mark.parametrize("is_loud", [False, True])
def test_a_session_whose_client_neither_reads_nor_is_read_ends_with_its_token(stage: Stage, is_loud: bool) -> None:
    stage.engine.start_session = lambda _: Deaf(is_loud)
    connection = wire(stage, "exec", make(stage))
    connection.send(json.dumps({"command": ["sh"]}))
    flood(connection)
    revoke(stage)
    assert stage.engine.sessions[0].closed.wait(END_S)
    wait_for(lambda: stage.api.state.threads.running == 0)
    connection.close()


def flood(connection: Wire) -> None:
    """Send input until the service takes no more."""
    connection._sock.settimeout(0.5)
    with suppress(TimeoutError, OSError, BlockingIOError):
        while True:
            connection.send(b"y" * 65536)


@pytest.mark.parametrize("is_loud", [False, True])
def test_a_client_that_vanishes_while_its_input_waits_takes_its_session_along(stage: Stage, is_loud: bool) -> None:
    stage.engine.start_session = lambda _: Deaf(is_loud)
    sock = open_socket(Target(kind="unix", place=str(stage.socket)), 5.0)
    connection = Wire(sock, "oton", "/v1/apps/shop/exec", {})
    connection.send(json.dumps({"command": ["sh"]}))
    flood(connection)
    sock.close()
    assert stage.engine.sessions[0].closed.wait(END_S)
    wait_for(lambda: stage.api.state.threads.running == 0)


def test_sessions_without_clients_take_nobody_elses_place(stage: Stage) -> None:
    stage.engine.start_session = lambda _: Deaf(is_loud=False)
    for _ in range(8):
        sock = open_socket(Target(kind="unix", place=str(stage.socket)), 5.0)
        connection = Wire(sock, "oton", "/v1/apps/shop/exec", {})
        connection.send(json.dumps({"command": ["sh"]}))
        flood(connection)
        sock.close()
    wait_for(lambda: stage.api.state.threads.running == 0)


def test_a_change_whose_body_is_still_on_its_way_is_not_made_once_the_token_has_ended(stage: Stage) -> None:
    secret = make(stage)
    before = dict(stage.directory.known)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE_S)
        sock.connect(str(stage.socket))
        head = f"PUT /v1/apps/shop/spec HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n"
        sock.sendall(f"{head}Content-Length: {len(SPEC)}\r\n\r\n{SPEC[:10]}".encode())
        wait_for(lambda: len(stage.api.state.gate.admissions) == 1)
        revoke(stage)
        assert b" 401 " in sock.recv(4096)
    assert stage.directory.known == before


def test_what_was_accepted_before_is_done(stage: Stage) -> None:
    """A request that acts when its token ends is let finish: half of a change helps nobody."""
    secret = make(stage)
    began, go_on = threading.Event(), threading.Event()
    give = stage.orders.give

    def slow(*args: Any, **more: Any) -> Any:
        began.set()
        assert go_on.wait(DEADLINE_S)
        return give(*args, **more)

    stage.orders.give = slow  # type: ignore[method-assign]
    answers: queue.Queue[httpx.Response] = queue.Queue()

    def ask() -> None:
        with stage.client() as client:
            answers.put(client.post("/v1/apps/shop/suspend", auth=Bearer(secret)))

    threading.Thread(target=ask, daemon=True).start()
    assert began.wait(DEADLINE_S)
    revoke(stage)
    go_on.set()
    assert answers.get(timeout=DEADLINE_S).status_code == 401
    assert stage.store.audit.list(limit=1)[0].outcome.startswith("accepted")


def test_a_command_whose_token_has_ended_says_so_and_not_that_the_service_is_away(stage: Stage) -> None:
    secret = make(stage)

    def follow(client: Client) -> None:
        with client.stream("/v1/apps/shop/logs", follow=True) as response:
            for _ in response.iter_lines():
                with suppress(Refused):  # by the second line
                    revoke(stage)

    with serving(stage) as url, Client(Target(kind="http", place=url, token=secret)) as client:
        with pytest.raises(Trouble, match="not valid") as told:
            follow(client)
        assert told.value.code == 7
