"""What mitmproxy's layers get wrong does not reach a client of an inspected app."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import time
from pathlib import Path

import pytest

from tests.inspect.rig import Inspector
from tests.proxy.rig import Caller, Lane, Visit, answer, polite, wait_for

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Extensions: permessage-deflate",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def with_trailers(visit: Visit) -> None:
    while await visit.head():
        await visit.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")


async def with_interim(visit: Visit) -> None:
    while await visit.head():
        await visit.say(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2000 + answer())


async def with_hop_by_hop(visit: Visit) -> None:
    while await visit.head():
        await visit.say(answer(b"ok", "200 OK", "Connection: X-Mine", "X-Mine: 1", "Keep-Alive: timeout=5"))


async def with_more_than_an_answer(visit: Visit) -> None:
    while await visit.head():
        await visit.say(answer(b"ok") + answer(b"for another"))


async def broken_off(visit: Visit) -> None:
    await visit.head()
    await visit.say(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    visit.reset()


async def with_folded_header(visit: Visit) -> None:
    while await visit.head():
        await visit.say(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok")


async def with_both_lengths(visit: Visit) -> None:
    while await visit.head():
        await visit.say(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        )


async def events(visit: Visit) -> None:
    await visit.head()
    await visit.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    await visit.say(b"9\r\ndata: 1\n\n\r\n")
    await visit.reader.read(1)


async def web_socket(visit: Visit) -> None:
    head = await visit.head()
    key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = hashlib.sha1(key.partition(b": ")[2] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    lines = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + base64.b64encode(accept)
    await visit.say(b"HTTP/1.1 101 Switching Protocols\r\n" + lines + b"\r\n\r\n")
    while data := await visit.reader.read(65536):
        visit.raw += data


def frame(payload: bytes, opcode: int = 2, *, fin: bool = True) -> bytes:
    first = bytes((opcode | (0x80 if fin else 0),))
    size = len(payload)
    if size < 126:
        return first + bytes((0x80 | size,)) + b"\0\0\0\0" + payload
    if size < 65536:
        return first + b"\xfe" + struct.pack(">H", size) + b"\0\0\0\0" + payload
    return first + b"\xff" + struct.pack(">Q", size) + b"\0\0\0\0" + payload


def ask(lane: Lane, *extra: str, **more: str) -> tuple[int, bytes, bytes]:
    with Caller(lane.port) as caller:
        caller.sock.settimeout(8)
        reply = caller.get("/", *extra, **more)
        assert reply.whole
        return reply.status, reply.body, reply.head.lower()


def test_trailers_end_at_the_inspector_and_hang_nobody(lane: Lane) -> None:
    lane.serve(with_trailers, inspect=True)
    for _ in range(2):
        status, body, head = ask(lane)
        assert (status, body) == (200, b"ok")
        assert b"x-sum" not in head


def test_interim_answers_hang_nobody(lane: Lane) -> None:
    lane.serve(with_interim, inspect=True)
    assert ask(lane)[:2] == (200, b"ok")


def test_hop_by_hop_headers_end_at_the_inspector(lane: Lane) -> None:
    lane.serve(with_hop_by_hop, inspect=True)
    status, body, head = ask(lane)
    assert (status, body) == (200, b"ok")
    assert b"x-mine" not in head
    assert b"timeout=5" not in head


def test_bytes_after_an_answer_never_become_anothers(lane: Lane) -> None:
    lane.serve(with_more_than_an_answer, inspect=True)
    with Caller(lane.port) as caller:
        assert [caller.get().body for _ in range(5)] == [b"ok"] * 5


def test_an_answer_that_breaks_off_does_not_end_like_a_whole_one(lane: Lane) -> None:
    lane.serve(broken_off, inspect=True)
    with Caller(lane.port) as caller:
        assert not caller.get().whole


@pytest.mark.parametrize("script", [with_folded_header, with_both_lengths])
def test_an_answer_that_two_could_read_differently_is_a_502_that_names_nobody(lane: Lane, script: object) -> None:
    [backend] = lane.serve(script, inspect=True)  # type: ignore[arg-type]
    with Caller(lane.port) as caller:
        reply = caller.get("/", "Accept: text/html")
    assert reply.status == 502
    said = (reply.head + reply.body).lower()
    assert not any(word in said for word in (b"mitmproxy", b"trouble", b"127.0.0.1", str(backend.port).encode()))


def test_a_replica_that_cannot_be_reached_is_told_by_the_lane_as_ever(lane: Lane) -> None:
    good, bad = lane.serve(polite, polite, inspect=True)
    lane.call(lambda: lane._servers.pop().close())
    with Caller(lane.port) as caller:
        for _ in range(20):
            reply = caller.get("/")
            assert (reply.status, reply.body) == (200, b"b0")
    assert good.heads
    assert {report["upstream"] for report in lane.reports} == {bad.name}
    assert {report["kind"] for report in lane.reports} == {"refused"}


def test_events_arrive_as_they_are_sent(lane: Lane) -> None:
    lane.serve(events, inspect=True)
    with Caller(lane.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        assert b"data: 1\n\n" in caller.until(b"data: 1\n\n")


def test_a_large_body_flows_and_is_not_kept(lane: Lane, inspector: Inspector) -> None:
    size = 64 * 1024 * 1024

    async def large(visit: Visit) -> None:
        await visit.head()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            await visit.say(b"x" * 65536)

    lane.serve(large, inspect=True)
    before = resident(inspector)
    with Caller(lane.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        caller.until(b"\r\n\r\n")
        came = len(caller.buffer)
        while came < size and (more := len(caller.sock.recv(262144))):
            came += more
        assert came == size
    assert resident(inspector) - before < 16 * 1024**2


def resident(inspector: Inspector) -> int:
    return int(Path(f"/proc/{inspector.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_messages_of_a_web_socket_are_not_kept(lane: Lane, inspector: Inspector) -> None:
    [backend] = lane.serve(web_socket, inspect=True)
    with Caller(lane.port) as caller:
        assert caller.get("/", *UPGRADE).status == 101
        before, block = resident(inspector), frame(b"x" * 500_000)
        for _ in range(80):
            caller.send(block)
        wait_for(lambda: len(backend.visits[0].raw) > 80 * 500_000)
    assert b"permessage-deflate" not in backend.heads[0]
    assert resident(inspector) - before < 20 * 1024**2


@pytest.mark.parametrize(
    "data",
    [frame(b"")[:1] + b"\xff" + struct.pack(">Q", 64 * 1024**2) + b"\0\0\0\0", frame(b"x", fin=False) + frame(b"", 0, fin=False) * 1100],
    ids=["a frame of 64 MiB", "a thousand frames"],
)  # fmt: skip
def test_a_message_too_large_to_be_inspected_is_closed_with_1009_at_once(lane: Lane, data: bytes) -> None:
    [backend] = lane.serve(web_socket, inspect=True)
    with Caller(lane.port) as caller:
        assert caller.get("/", *UPGRADE).status == 101
        began = time.monotonic()
        caller.send(data)
        assert struct.pack(">H", 1009) in caller.rest()
        assert time.monotonic() - began < 5
    wait_for(lambda: struct.pack(">H", 1009)[:1] in bytes(backend.visits[0].raw) or not backend.open)


def test_more_streams_than_five_on_one_replica_wait_for_nobody(lane: Lane) -> None:
    lane.serve(events, inspect=True)
    callers = [Caller(lane.port) for _ in range(12)]
    try:
        for caller in callers:
            caller.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        assert all(caller.until(b"data: 1\n\n").endswith(b"data: 1\n\n") for caller in callers)
    finally:
        for caller in callers:
            caller.close()


def test_a_body_goes_on_whole_and_an_early_answer_is_passed_on(lane: Lane) -> None:
    async def hasty(visit: Visit) -> None:
        await visit.head()
        await visit.say(answer(b"enough", "413 Content Too Large"))
        await visit.reader.read(100)

    [backend] = lane.serve(polite, inspect=True)
    with Caller(lane.port) as caller:
        assert caller.get("/", method="POST", body=b"y" * 300_000).status == 200
    assert bytes(backend.visits[0].raw).endswith(b"y" * 300_000)
    lane.serve(hasty, inspect=True)
    with Caller(lane.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 999999\r\n\r\n" + b"z" * 1000)
        assert caller.reply().body == b"enough"
