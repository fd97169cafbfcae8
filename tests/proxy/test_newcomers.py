"""A connection by TLS counts from its first packet on, however its handshake goes, and no longer than it is open."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest

from controller.proxy.addon import port_of
from controller.proxy.limits import Limits
from tests.proxy.rig import Caller, a_lane, an_app, wait_for
from tests.proxy.shop import Shop

RESET = b"\x01\0\0\0\0\0\0\0"


@pytest.fixture
def few() -> Iterator[Shop]:
    """A lane that takes two connections of one client."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    with a_lane(Limits(connections_per_client=2), tls_port=port_of(sock)) as lane:
        lane.take(an_app(lane.backend()))
        made = Shop(lane, sock)
        made.take(**{"shop.example": made.issue("shop.example")})
        yield made
        lane.call(made.addon.close)


def hello() -> bytes:
    """Return the first flight of a handshake."""
    context = ssl.create_default_context()
    sent = ssl.MemoryBIO()
    side = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="shop.example")
    with pytest.raises(ssl.SSLWantReadError):
        side.do_handshake()
    return sent.read()


SILENT: dict[str, bytes] = {"nothing": b"", "a byte": b"\x16", "half a hello": hello()[:100], "a hello": hello()}


@pytest.mark.parametrize("row", SILENT)
def test_handshakes_that_never_finish_count_for_the_limit_of_their_client(few: Shop, row: str) -> None:
    with Caller(few.port) as one, Caller(few.port) as two:
        for caller in (one, two):
            caller.send(SILENT[row])
        wait_for(lambda: len(few.lane.core.clients) == 2)
        with Caller(few.port) as three:
            assert three.is_closed()
        assert [report for report in few.lane.reports if report["kind"] == "limit"]
    wait_for(lambda: not few.lane.core.clients)
    with few.call("shop.example") as caller:
        assert caller.get(host="shop.example").status == 200


def rude(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


ENDS: dict[str, Callable[[socket.socket], None]] = {
    "end": lambda sock: sock.close(),
    "reset": rude,
    "half": lambda sock: sock.shutdown(socket.SHUT_WR),
    "rubbish": lambda sock: sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("row", SILENT)
def test_however_a_handshake_ends_nothing_of_it_stays_counted(few: Shop, row: str, end: str) -> None:
    for _ in range(5):
        with Caller(few.port) as caller:
            caller.send(SILENT[row])
            if row == "a hello":
                wait_for(caller.more)
            ENDS[end](caller.sock)
        wait_for(lambda: not few.lane.core.clients)
    with few.call("shop.example") as one, few.call("shop.example") as two:
        assert one.get(host="shop.example").status == two.get(host="shop.example").status == 200
        assert len(few.lane.core.clients) == 2
    wait_for(lambda: not few.lane.core.clients)
    assert few.lane.core.guests._here == {}


def test_one_that_finished_keeps_its_place_and_gives_it_back(few: Shop) -> None:
    for _ in range(10):
        with few.call("shop.example") as one, few.call("shop.example"):
            assert one.get(host="shop.example").status == 200
            with Caller(few.port) as three:
                assert three.is_closed()
        wait_for(lambda: not few.lane.core.clients)


def test_a_certificate_that_is_not_there_leaves_nothing_counted(few: Shop) -> None:
    for _ in range(5):
        with pytest.raises(ssl.SSLError):
            few.call("other.example")
        wait_for(lambda: not few.lane.core.clients)


def test_many_handshakes_at_once_all_finish() -> None:
    sock = socket.create_server(("127.0.0.1", 0), backlog=100)
    sock.setblocking(False)
    with a_lane(tls_port=port_of(sock)) as lane:
        lane.take(an_app(lane.backend()))
        shop = Shop(lane, sock)
        shop.take(**{"shop.example": shop.issue("shop.example")})
        statuses: list[int] = []

        def ask() -> None:
            with shop.call("shop.example") as caller:
                statuses.append(caller.get(host="shop.example").status)

        threads = [threading.Thread(target=ask) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 30
        wait_for(lambda: not lane.core.clients)
        lane.call(shop.addon.close)


def test_a_worker_that_goes_waits_for_handshakes_no_longer_than_for_the_rest(few: Shop) -> None:
    emptied: list[bool] = []
    few.lane.core.on_empty = lambda: emptied.append(True)
    with Caller(few.port) as silent, Caller(few.port) as half:
        half.send(SILENT["a hello"])
        wait_for(lambda: len(few.lane.core.clients) == 2)
        few.lane.call(lambda: few.lane.core.retire(0.2))
        assert silent.rest() == b""
        half.rest()
        wait_for(lambda: emptied)
        assert not few.lane.core.clients
