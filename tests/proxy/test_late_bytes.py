"""Bytes that a replica sends beyond its answer, however late, are never the answer to another request."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.proxy.rig import Backend, Caller, Lane, Script, Visit, an_app, answer, opened, polite, wait_for
from tests.proxy.test_turns import deaf

POISON = answer(b"poison")
ANNOUNCED = {
    "HEAD with a length": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(POISON)),
    "HEAD with chunks": ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "204 with a length": ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: %d\r\n\r\n" % len(POISON)),
    "204 with chunks": ("GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "304 with a length": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: %d\r\n\r\n" % len(POISON)),
    "304 with chunks": ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
}
SILENT = {
    "HEAD without a length": ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
    "HEAD with length nought": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
}


def then_a_body(head: bytes) -> Script:
    """On the first connection answer with *head*, and with a body once the gate is open."""

    async def script(visit: Visit) -> None:
        if visit.number:
            await polite(visit)
            return
        await visit.head()
        await visit.say(head)
        await opened(visit.backend)
        await visit.say(POISON)
        await visit.reader.read()

    return script


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("row", [*ANNOUNCED, *SILENT])
def test_a_body_that_must_not_be_there_and_comes_late_reaches_nobody(lane: Lane, row: str, method: str) -> None:
    first, head = {**ANNOUNCED, **SILENT}[row]
    (backend,) = lane.serve(then_a_body(head))
    with Caller(lane.port) as caller:
        caller.get(method=first)
        caller.send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_for(lambda: len(backend.heads) > 1)
        backend.gate = True
        reply = caller.reply()
        assert (reply.status, reply.body) == (200, b"b0")
        assert [caller.get().body for _ in range(5)] == [b"b0"] * 5


@pytest.mark.parametrize("row", ANNOUNCED)
def test_a_connection_whose_answer_announced_a_body_that_must_not_come_is_closed(lane: Lane, row: str) -> None:
    method, head = ANNOUNCED[row]
    (backend,) = lane.serve(then_a_body(head))
    with Caller(lane.port) as caller:
        caller.get(method=method)
        backend.gate = True
        wait_for(lambda: backend.open == 0)


@pytest.mark.parametrize("row", SILENT)
def test_a_connection_that_answered_head_rests_and_is_used_again(lane: Lane, row: str) -> None:
    method, head = SILENT[row]

    async def script(visit: Visit) -> None:
        while await visit.head():
            await visit.say(head)

    (backend,) = lane.serve(script)
    with Caller(lane.port) as caller:
        for _ in range(3):
            assert caller.get(method=method).status == 200
        assert len(backend.visits) == 3, "each rests at first"
        wait_for(lambda: kept(lane) == 3)
        assert caller.get(method=method).status == 200
        assert len(backend.visits) == 3


def kept(lane: Lane) -> int:
    return sum(len(pool._idle) for pool in lane.core.shop.warm)


def open_links(lane: Lane) -> int:
    return sum(len(pool._idle) + len(pool._resting) for pool in lane.core.shop.warm)


def test_a_connection_that_showed_stray_bytes_closes_those_that_its_replica_has_kept(lane: Lane) -> None:
    async def script(visit: Visit) -> None:
        while head := await visit.head():
            await opened(visit.backend)
            await visit.say(answer(b"ok") + (b"stray" if b"/stray" in head else b""))

    (backend,) = lane.serve(script)
    callers = [Caller(lane.port) for _ in range(4)]
    for caller in callers:
        caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_for(lambda: len(backend.heads) == 4)
    backend.gate = True
    assert [caller.reply().body for caller in callers] == [b"ok"] * 4
    wait_for(lambda: kept(lane) == 4)
    assert callers[0].get("/stray").body == b"ok"
    wait_for(lambda: backend.open == 0)
    assert callers[1].get().body == b"ok"
    for caller in callers:
        caller.close()


def test_so_are_those_that_were_in_use_meanwhile_once_they_come_back(lane: Lane) -> None:
    async def script(visit: Visit) -> None:
        while head := await visit.head():
            if b"/slow" in head:
                await opened(visit.backend)
            await visit.say(answer(b"ok") + (b"stray" if b"/stray" in head else b""))

    (backend,) = lane.serve(script)
    with Caller(lane.port) as slow, Caller(lane.port) as stray:
        slow.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: backend.heads)
        assert stray.get("/stray").body == b"ok"
        backend.gate = True
        assert slow.reply().body == b"ok"
        wait_for(lambda: backend.open == 0)


class Aimed:
    """A replica that a test drives by hand, beside the lane's loop."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(10)
        self.backend = Backend("aimed", self.server.getsockname()[1])
        self.socks: list[socket.socket] = []

    def take(self) -> socket.socket:
        sock, _ = self.server.accept()
        sock.settimeout(10)
        self.socks.append(sock)
        return sock

    def close(self) -> None:
        for sock in (*self.socks, self.server):
            sock.close()


@pytest.fixture
def aimed(lane: Lane) -> Iterator[Aimed]:
    made = Aimed()
    lane.take(an_app(made.backend))
    yield made
    made.close()


ASK = b"%b /%b HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("stray", [POISON, b"x", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
def test_bytes_that_wait_on_a_kept_connection_as_the_next_request_comes_are_not_its_answer(
    lane: Lane, aimed: Aimed, stray: bytes, method: bytes
) -> None:
    with Caller(lane.port) as caller:
        caller.send(ASK % (b"GET", b"first"))
        first = aimed.take()
        assert b"/first" in first.recv(4096)
        first.sendall(answer(b"ok"))
        assert caller.reply().body == b"ok"
        wait_for(lambda: kept(lane) == 1)
        with deaf(lane):
            caller.send(ASK % (method, b"second"))  # the lane hears of this before it hears of the stray bytes
            first.sendall(stray)
        second = aimed.take()
        assert b"/second" in second.recv(4096)
        second.sendall(answer(b"right"))
        assert caller.reply().body == b"right"


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_post_is_not_sent_on_a_connection_whose_end_waits_to_be_read(lane: Lane, aimed: Aimed, how: str) -> None:
    with Caller(lane.port) as caller:
        caller.send(ASK % (b"GET", b"first"))
        first = aimed.take()
        first.recv(4096)
        first.sendall(answer(b"ok"))
        assert caller.reply().body == b"ok"
        wait_for(lambda: kept(lane) == 1)
        with deaf(lane):
            caller.send(ASK % (b"POST", b"second"))
            if how == "reset":
                first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            first.close()
        second = aimed.take()
        assert b"/second" in second.recv(4096)
        second.sendall(answer(b"right"))
        assert caller.reply().body == b"right"


HALVES = {
    "half a status line": b"HTTP/1.1 20",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "one byte": b"H",
    "a 103": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    "a 103 and half a head": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200",
    "a head that makes no sense": b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
    "another protocol": b"220 smtp ready\r\n\r\n",
}


@pytest.mark.parametrize("kept_alive", [False, True], ids=["fresh", "kept alive"])
@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("row", HALVES)
def test_a_request_is_not_asked_again_once_a_byte_of_an_answer_came_back(
    lane: Lane, row: str, end: str, kept_alive: bool
) -> None:
    async def script(visit: Visit) -> None:
        while head := await visit.head():
            if b"/half" not in head:
                await visit.say(answer())
                continue
            await visit.say(HALVES[row])
            await opened(visit.backend)
            if end == "reset":
                visit.reset()
            return

    backends = lane.serve(script, script)
    with Caller(lane.port) as caller:
        if kept_alive:
            for _ in range(8):
                assert caller.get().status == 200
        caller.send(b"GET /half HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: halves(backends))
        wait_for(lambda: heard(lane) or any(entry["status"] == 502 for entry in lane.log))
        for backend in backends:
            backend.gate = True
        assert caller.reply().status == 502
    assert len(halves(backends)) == 1


def halves(backends: list[Backend]) -> list[bytes]:
    return [head for backend in backends for head in backend.heads if b"/half" in head]


def heard(lane: Lane) -> bool:
    links: list[Any] = [client._exchange.link for client in list(lane.core.clients) if client._exchange]  # type: ignore[attr-defined]
    return any(link is not None and (link._head or link.heard) for link in links)


@pytest.mark.parametrize("how", ["gone", "drained"])
def test_nor_where_its_replica_leaves_meanwhile(lane: Lane, how: str) -> None:
    from dataclasses import replace

    from controller.clock import steady_seconds

    async def script(visit: Visit) -> None:
        await visit.head()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-")
        await visit.reader.read()

    old, new = lane.backend(script, "old"), lane.backend(polite, "new")
    entry = an_app(old)
    lane.take(entry)
    with Caller(lane.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: heard(lane))
        state = {"state": "gone"} if how == "gone" else {"state": "draining", "until": steady_seconds() + 0.2}
        upstreams = (replace(entry.upstreams[0], **state), *an_app(new).upstreams)
        lane.take(replace(entry, upstreams=upstreams))
        assert caller.reply().status == 502
    assert new.heads == []
