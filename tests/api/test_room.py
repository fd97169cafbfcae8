"""Whoever reaches OTON_API without a token takes neither the socket's place, nor time, nor descriptors without end."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from controller.api import protocols
from controller.api.room import LEAST, RESERVE, Room, client_of, room_for
from controller.api.server import PatientServer, make_config
from controller.api.sockets import open_tcp
from tests.api.stage import DEADLINE_S, Stage
from tests.api.test_apps import wait_for
from tests.api.test_tokens import a_server, serving

SHORT_S = 0.5


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stage"), settings=a_server()).open() as opened:
        opened.bring_up()
        yield opened


@pytest.fixture(scope="module")
def tcp(stage: Stage) -> Iterator[tuple[str, int]]:
    with serving(stage) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        yield host, int(port)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every patience short."""
    for name in ("HEAD_S", "READER_S", "LINGER_S"):
        monkeypatch.setattr(protocols, name, SHORT_S)
    monkeypatch.setattr(protocols, "LOOK_S", 0.1)


def answer_of(sock: socket.socket) -> bytes:
    """Return all that comes until the other side closes; b"" if it only closed."""
    sock.settimeout(DEADLINE_S)
    found = b""
    with suppress(ConnectionError):
        while piece := sock.recv(65536):
            found += piece
    return found


def feed(sock: socket.socket, piece: bytes, pause_s: float) -> bytes:
    """Send *piece* again and again until the other side closes, and return what it said."""
    sock.settimeout(pause_s)
    found, until = b"", time.monotonic() + DEADLINE_S
    with suppress(ConnectionError, BrokenPipeError):
        while time.monotonic() < until:
            sock.sendall(piece)
            with suppress(TimeoutError):
                got = sock.recv(65536)
                if not got:
                    return found
                found += got
        raise AssertionError("it was waited for without end")
    return found


HEAD = b"GET /v1/apps HTTP/1.1\r\nHost: x\r\n"
SLOW = {
    "silent": (b"", b""),
    "half a line": (b"GET /v1", b""),
    "a header at a time": (HEAD, b"X-A: b\r\n"),
    "a byte at a time": (HEAD, b"x"),
    "empty lines": (b"", b"\r\n"),
    "silent after an answer": (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\r\n", b""),
}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(("first", "piece"), SLOW.values(), ids=SLOW)
def test_a_head_has_an_end(tcp: tuple[str, int], first: bytes, piece: bytes) -> None:
    with socket.create_connection(tcp) as sock:
        sock.sendall(first)
        answer = feed(sock, piece, 0.02) if piece else answer_of(sock)
        said = answer.partition(b"HTTP/1.1 ")[2][:3]
        assert said in (b"", b"408", b"431", b"200")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 120_000,
        HEAD + b"X-A: " + b"b" * 120_000,
        HEAD + b"".join(b"X-%d: b\r\n" % number for number in range(101)) + b"\r\n",
        HEAD + b"X-A: b\r\n" * 10_000,
    ],
    ids=["line", "header", "count", "endless"],
)
def test_a_head_has_a_size(tcp: tuple[str, int], head: bytes) -> None:
    with socket.create_connection(tcp) as sock:
        with suppress(ConnectionError):
            sock.sendall(head)
        answer = answer_of(sock)
        assert answer.startswith(b"HTTP/1.1 431 ")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"content-type: application/problem+json" in head
        assert json.loads(body)["type"] == "/problems/too-large"


def test_a_head_within_its_size_is_taken_in_whatever_pieces(tcp: tuple[str, int]) -> None:
    whole = HEAD + b"X-A: " + b"b" * 20_000 + b"\r\n" + b"".join(b"X-%d: b\r\n" % n for n in range(90)) + b"\r\n"
    for size in (1000, len(whole)):
        with socket.create_connection(tcp) as sock:
            for at in range(0, len(whole), size):
                sock.sendall(whole[at : at + size])
            assert sock.recv(100).startswith(b"HTTP/1.1 401 ")


@pytest.mark.usefixtures("hasty")
def test_a_body_that_nobody_wants_is_taken_for_a_short_while_only(tcp: tuple[str, int]) -> None:
    with socket.create_connection(tcp) as sock:
        sock.sendall(b"PUT /v1/apps/shop/spec HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert b" 401 " in feed(sock, b"x" * 100, 0.05)


def test_one_whose_body_was_not_wanted_may_ask_again_on_the_same_connection(tcp: tuple[str, int]) -> None:
    with socket.create_connection(tcp) as sock:
        for _ in range(3):
            sock.sendall(b"PUT /v1/apps/shop/spec HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" + b"x" * 50)
            answer = HTTPResponse(sock)
            answer.begin()
            assert (answer.status, len(answer.read()) > 0) == (401, True)
            sock.sendall(b"x" * 50)


@pytest.mark.usefixtures("hasty")
def test_a_body_comes_at_a_pace_or_not_at_all(stage: Stage, tcp: tuple[str, int]) -> None:
    secret = stage.store.tokens.create("slow")[0]
    with socket.create_connection(tcp) as sock:
        head = f"PUT /v1/apps/shop/spec HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n"
        sock.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode())
        assert feed(sock, b"x", 0.05) == b""


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("is_known", [False, True])
def test_an_answer_that_a_stranger_does_not_read_has_an_end(is_known: bool) -> None:
    async def endless(scope: Any, _: Any, send: Any) -> None:
        scope.setdefault("state", {}).update({"caller": "somebody"} if is_known else {})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def leave_unread() -> bool:
        listener = open_tcp(("127.0.0.1", 0))
        server = PatientServer(make_config(endless))  # type: ignore[arg-type]
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        _, writer = await asyncio.open_connection(*listener.getsockname(), limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        lost = asyncio.create_task(wait_lost(server))
        done, _ = await asyncio.wait([lost], timeout=4 * SHORT_S if is_known else DEADLINE_S)
        writer.transport.abort()
        server.should_exit = True
        await serving
        lost.cancel()
        return bool(done)

    assert asyncio.run(leave_unread()) is not is_known


async def wait_lost(server: Any) -> None:
    """Return once a connection was there and is gone."""
    seen = False
    while not seen or server.server_state.connections:
        seen = seen or bool(server.server_state.connections)
        await asyncio.sleep(0.05)


def test_places_are_counted_by_client() -> None:
    room = Room(most=5, share=3)
    assert [room.enter("a") for _ in range(4)] == [True, True, True, False]
    assert [room.enter("b") for _ in range(3)] == [True, True, False]
    room.leave("a")
    assert room.enter("c")
    assert len(room) == 5


@pytest.mark.parametrize("soft", [256, 1024, 4096, 2**20])
def test_descriptors_are_left_for_everything_else(soft: int) -> None:
    outside, local = room_for(socket.AF_INET6, soft), room_for(socket.AF_UNIX, soft)
    assert outside._most + local._most <= max(2 * LEAST, soft - RESERVE)
    assert outside._share < outside._most


@pytest.mark.parametrize(
    ("address", "client"),
    [
        (("127.0.0.1", 1), "loopback"),
        (("::1", 1, 0, 0), "loopback"),
        (("::ffff:127.0.0.9", 1, 0, 0), "loopback"),
        (("203.0.113.7", 1), "203.0.113.7"),
        (("::ffff:203.0.113.7", 1, 0, 0), "203.0.113.7"),
        (("2001:db8::1", 1, 0, 0), "2001:db8::/64"),
        (("2001:db8::ffff:1", 1, 0, 0), "2001:db8::/64"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::/64"),
        ("", "local"),
    ],
)
def test_a_client_is_an_address_or_a_network(address: Any, client: str) -> None:
    assert client_of(address) == client


def test_a_full_room_keeps_newcomers_out_and_the_socket_open(stage: Stage, tcp: tuple[str, int]) -> None:
    share = room_for(socket.AF_INET)._share
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(tcp)) for _ in range(share)]
        with socket.create_connection(tcp) as refused:
            assert answer_of(refused) == b""
        with stage.client() as client:
            assert client.get("/v1/apps").status_code == 200
        silent[0].close()
        wait_for(lambda: asks(tcp))


def asks(tcp: tuple[str, int]) -> bool:
    """Say whether a newcomer is answered."""
    with socket.create_connection(tcp) as sock:
        sock.settimeout(DEADLINE_S)
        with suppress(ConnectionError):
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            return sock.recv(100).startswith(b"HTTP/1.1 200")
    return False


SERVE = """
import resource, sys, threading
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]),) * 2)
from controller.api.sockets import Listening, open_tcp
from controller.api.server import ApiThread
from controller.api.server import PatientServer, make_config
from controller.api.sockets import open_tcp
from tests.api.stage import Stage
with Stage(Path(sys.argv[1])).open() as stage:
    stage.bring_up()
    stage.bring_up("beside")
    listener = open_tcp(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    stop = threading.Event()
    served = threading.Thread(target=ApiThread(stage.api, Listening((listener,))).run, args=(stop,))
    served.start()
    for line in sys.stdin:
        files = [open("/dev/null") for _ in range(100)]
        print("opened", flush=True)
        [file.close() for file in files]
    stop.set()
    served.join()
"""


@contextmanager
def a_service(place: Path, descriptors: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-c", SERVE, str(place), str(descriptors)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()


def test_thousands_of_silent_connections_leave_the_socket_and_descriptors_for_the_rest(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        with a_service(tmp_path, descriptors=1024) as (process, port), ExitStack() as stack:
            for _ in range(3000):
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            for _ in range(5):
                assert [row["app"] for row in ask_socket(tmp_path / "oton.sock")] == ["beside", "shop"]
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "opened\n", "files can still be opened"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def ask_socket(place: Path) -> Any:
    """Return what the socket says of all apps, on a connection of its own."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE_S)
        sock.connect(str(place))
        sock.sendall(b"GET /v1/apps HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return json.loads(answer_of(sock).partition(b"\r\n\r\n")[2])
