"""F18, F44: hostile bytes of a client or a replica, on a whole service: they cost their sender alone."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.e2e.conftest import open_house
from tests.parts.images import PYTHON
from tests.parts.service import Service
from tests.parts.stage import Stage
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

MakeStage = Callable[..., Stage]

FLOOD = b"GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n"
FLOODED = 80_000
UNBORN = b"1\r\nx\r\n"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with one worker, so that hostile clients and their neighbours meet."""
    with open_house(tmp_path_factory.mktemp("house"), {"OTON_WORKERS": "1"}) as service:
        yield service


@pytest.fixture(scope="module")
def shop(house: Service) -> Stage:
    """The app that most tests share."""
    made = Stage(house, "shop", replicas=1)
    made.deploy("v1", proxy={"redirects": [{"from": "/old", "to": "/new"}]})
    return made


@contextmanager
def flooding(service: Service, data: bytes) -> Iterator[list[int]]:
    """Send *data* on one connection while the block runs; yields how many answers came back so far."""
    answers = [0]
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as sock:

        def send() -> None:
            try:
                sock.sendall(data)
            except OSError:
                return  # the test is over

        def read() -> None:
            tail = b""
            try:
                while piece := sock.recv(1 << 20):
                    seen = tail + piece
                    answers[0] += seen.count(b"HTTP/1.1 404 ")
                    tail = seen[-12:] if not seen.endswith(b"HTTP/1.1 404 ") else b""
            except OSError:
                return

        threads = [threading.Thread(target=send), threading.Thread(target=read)]
        for thread in threads:
            thread.start()
        try:
            yield answers
        finally:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            sock.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def test_neighbours_are_answered_while_a_client_floods_their_worker(house: Service, shop: Stage) -> None:
    with flooding(house, FLOOD * FLOODED) as answers:
        wait_for(lambda: answers[0] > 100, 20, "the flood is being answered")
        for _ in range(10):
            assert house.get(host=shop.host).status_code == 200
        assert answers[0] < FLOODED * 3 // 4, "the neighbour waited for the flood to end"


def test_neighbours_are_answered_while_a_client_drips_chunks_of_one_byte(house: Service, shop: Stage) -> None:
    head = f"POST /echo HTTP/1.1\r\nHost: {shop.host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with flooding(house, head + UNBORN * 1_000_000):
        for _ in range(10):
            assert house.get(host=shop.host).status_code == 200


def test_nothing_after_the_last_request_of_a_connection_is_carried_out(house: Service, shop: Stage) -> None:
    smuggled = f"POST /echo HTTP/1.1\r\nHost: {shop.host}\r\nX-Check-Id: after\r\nContent-Length: 2\r\n\r\nhi".encode()
    for last in (
        f"GET /old HTTP/1.1\r\nHost: {shop.host}\r\nConnection: close\r\n\r\n",
        f"GET /old HTTP/1.0\r\nHost: {shop.host}\r\n\r\n",
        f"GET /here HTTP/1.1\r\nHost: {shop.host}\r\nConnection: close\r\n\r\n",
    ):
        # And leaves a connection to the replica on which a request could go at once.
        assert house.get("/first", host=shop.host).status_code == 200
        with socket.create_connection(("127.0.0.1", house.port), timeout=20) as sock:
            sock.sendall(last.encode() + smuggled)
            answer = b"".join(iter(lambda sock=sock: sock.recv(65536), b""))
        assert answer.startswith((b"HTTP/1.1 301 ", b"HTTP/1.1 200 ")), answer
        assert answer.count(b"HTTP/1.1 ") == 1, answer
    assert house.get("/last", host=shop.host).status_code == 200
    wait_for(lambda: "/last" in shop.backend_log(), 10, "the replica logged the last request")
    assert '"after"' not in shop.backend_log()


LATE = r"""
import _thread, socket
def read(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise SystemExit
        data += more
    return data
def answer(body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
def serve(sock):
    late = b""
    while True:
        head = read(sock)
        sock.sendall(late)
        late = b""
        method, path = head.split()[:2]
        if method == b"HEAD":
            late = answer(b"of another")
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(late))
        elif path == b"/cached":
            late = answer(b"of another")
            sock.sendall(b"HTTP/1.1 304 Not Modified\r\nContent-Length: %d\r\n\r\n" % len(late))
        else:
            sock.sendall(answer(path))
server = socket.create_server(("", 8000))
while True:
    _thread.start_new_thread(serve, (server.accept()[0],))
"""
"""A replica that sends the body of an answer that has none, just as the next request comes on that connection."""


def test_a_body_that_comes_late_is_never_another_clients_answer(house: Service, stage: MakeStage) -> None:
    shop = stage(replicas=1)
    shop.deploy("v1", command=[PYTHON, "-I", "-S", "-c", LATE])
    base = f"http://127.0.0.1:{house.port}"
    with (
        httpx.Client(base_url=base, headers={"Host": shop.host}, timeout=20) as one,
        httpx.Client(base_url=base, headers={"Host": shop.host}, timeout=20) as other,
    ):
        for number in range(10):
            first = one.head("/") if number % 2 else one.get("/cached")
            assert first.status_code in (200, 304)
            answer = other.post(f"/own/{number}")
            assert (answer.status_code, answer.text) == (200, f"/own/{number}")


def test_all_requests_that_came_before_a_clients_end_are_answered(house: Service, shop: Stage) -> None:
    with socket.create_connection(("127.0.0.1", house.port), timeout=20) as sock:
        requests = [f"GET /{n} HTTP/1.1\r\nHost: {shop.host}\r\nX-Check-Id: n{n}n\r\n\r\n" for n in range(20)]
        sock.sendall("".join(requests).encode())
        sock.shutdown(socket.SHUT_WR)
        answers = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answers.count(b"HTTP/1.1 200 OK") == 20, json.dumps(answers.decode())
    places = [answers.index(f" n{n}n\n".encode()) for n in range(20)]
    assert places == sorted(places)
