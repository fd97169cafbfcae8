"""A replica that leaves lets what is open on it end, by kind, within its limit, and other apps notice nothing."""

import asyncio
import time
from dataclasses import replace

import pytest

from controller.clock import steady_seconds
from controller.proxy.chunks import Everything
from controller.proxy.tunnel import FrameCursor, render_close
from controller.routing.table import AppRoutes
from tests.proxy.rig import Backend, Caller, Lane, Visit, an_app, answer, opened, polite, wait_for

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
CLOSE_1012 = b"\x88\x02\x03\xf4"


def leaving(entry: AppRoutes, *stay: Backend, drain_s: float) -> AppRoutes:
    """Return *entry* with every upstream draining, and *stay* ready."""
    until = steady_seconds() + drain_s
    old = tuple(replace(upstream, state="draining", until=until) for upstream in entry.upstreams)
    return replace(entry, upstreams=old + an_app(*stay).upstreams)


def drained(lane: Lane) -> list[tuple[str, int]]:
    return [(report["upstream"], report["version"]) for report in lane.reports if report["kind"] == "drained"]


async def on_demand(visit: Visit) -> None:
    """Answer once the test sets the backend's gate."""
    while await visit.head():
        await opened(visit.backend)
        await visit.say(answer(visit.backend.name.encode()))


def test_an_open_request_may_end_and_then_the_replica_is_told_drained(lane: Lane) -> None:
    old, new = lane.backend(on_demand, "old"), lane.backend(polite, "new")
    entry = an_app(old)
    lane.take(entry)
    with Caller(lane.port) as caller, Caller(lane.port) as other:
        caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: old.heads)
        version = lane.take(leaving(entry, new, drain_s=30))
        assert other.get().body == b"new"
        assert drained(lane) == []
        old.gate = True
        assert caller.reply().body == b"old"
        assert caller.get().body == b"new"
    wait_for(lambda: drained(lane) == [("old", version)])


def test_an_idle_replica_is_drained_at_once_and_its_connections_are_closed(lane: Lane) -> None:
    (old,) = lane.serve()
    with Caller(lane.port) as caller:
        assert caller.get().status == 200
        assert old.open == 1
        version = lane.take(leaving(an_app(old), lane.backend(polite, "new"), drain_s=30))
        assert drained(lane) == [("b0", version)]
        wait_for(lambda: old.open == 0)


def test_an_upstream_that_is_out_of_the_table_is_told_drained_once(lane: Lane) -> None:
    lane.serve()
    new = lane.backend(polite, "new")
    version = lane.take(an_app(new))
    lane.take(replace(an_app(new), hold_s=31.0))
    assert drained(lane) == [("b0", version)]


def test_each_version_of_the_entry_tells_anew(lane: Lane) -> None:
    (old,) = lane.serve()
    entry = leaving(an_app(old), lane.backend(polite, "new"), drain_s=30)
    versions = [lane.take(replace(entry, hold_s=float(number))) for number in range(1, 4)]
    assert drained(lane) == [("b0", version) for version in versions]


def test_a_removed_app_lets_its_open_requests_be_told_apart(lane: Lane) -> None:
    lane.serve()
    lane.take()
    assert [name for name, _ in drained(lane)] == ["b0"]
    with Caller(lane.port) as caller:
        assert caller.get().status == 404


@pytest.mark.parametrize("head", ["Content-Length: 100", "Transfer-Encoding: chunked", "Connection: close"])
def test_an_answer_that_outlasts_the_limit_is_cut_visibly(lane: Lane, head: str) -> None:
    async def endless(visit: Visit) -> None:
        await visit.head()
        await visit.say(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode())
        if "chunked" in head:
            await visit.say(b"1\r\nx\r\n")
        await visit.reader.read()

    old = lane.backend(endless, "old")
    entry = an_app(old)
    lane.take(entry)
    with Caller(lane.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        caller.until(b"\r\n\r\n")
        began = time.monotonic()
        lane.take(leaving(entry, lane.backend(polite, "new"), drain_s=0.5))
        assert not caller.rest().endswith(b"0\r\n\r\n")
        assert time.monotonic() - began > 0.4
    wait_for(lambda: drained(lane))


def test_a_get_without_an_answer_at_the_limit_is_asked_of_the_new_release(lane: Lane) -> None:
    old, new = lane.backend(on_demand, "old"), lane.backend(polite, "new")
    entry = an_app(old)
    lane.take(entry)
    with Caller(lane.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: old.heads)
        lane.take(leaving(entry, new, drain_s=0.3))
        assert caller.reply().body == b"new"


async def events(visit: Visit) -> None:
    """Send an event now and then, in two halves."""
    await visit.head()
    await visit.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await visit.say(b"6\r\ndata: \r\n")
        await asyncio.sleep(0.01)
        await visit.say(b"3\r\nx\n\n\r\n")
        await asyncio.sleep(0.01)


def test_an_event_stream_ends_in_the_last_quarter_at_a_border_and_properly(lane: Lane) -> None:
    old = lane.backend(events, "old")
    entry = an_app(old)
    lane.take(entry)
    with Caller(lane.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        caller.until(b"x\n\n")
        began = time.monotonic()
        lane.take(leaving(entry, lane.backend(polite, "new"), drain_s=1.0))
        rest = caller.rest()
        assert time.monotonic() - began > 0.7
    assert rest.endswith(b"x\n\n\r\n0\r\n\r\n")
    wait_for(lambda: drained(lane))


def test_a_quiet_event_stream_ends_at_once_when_its_time_comes(lane: Lane) -> None:
    async def one_event(visit: Visit) -> None:
        await visit.head()
        await visit.say(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nx\n\n\r\n"
        )
        await visit.reader.read()

    old = lane.backend(one_event, "old")
    lane.take(an_app(old))
    with Caller(lane.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        caller.until(b"x\n\n\r\n")
        lane.take(leaving(an_app(old), drain_s=0.4))
        assert caller.rest() == b"0\r\n\r\n"


async def echo_frames(visit: Visit) -> None:
    """Switch to WebSocket and send back every byte."""
    await visit.head()
    await visit.say(SWITCH)
    while data := await visit.reader.read(65536):
        visit.raw += data
        await visit.say(data)


def a_socket(lane: Lane, port: int | None = None) -> Caller:
    caller = Caller(port or lane.port)
    caller.send(HANDSHAKE)
    reply = caller.reply()
    assert reply.status == 101
    assert reply.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    return caller


def test_a_websocket_passes_bytes_both_ways(lane: Lane) -> None:
    (backend,) = lane.serve(echo_frames)
    with a_socket(lane) as caller:
        frame = b"\x82\x05hello"
        caller.send(frame)
        assert caller.exactly(7) == frame
    wait_for(lambda: backend.open == 0)
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in backend.heads[0]


def test_a_websocket_gets_1012_in_the_last_quarter_and_one_of_another_app_nothing(lane: Lane) -> None:
    old, other = lane.backend(echo_frames, "old"), lane.backend(echo_frames, "other")
    entry, bystander = an_app(old, path="/ws"), an_app(other, app="blog", host="blog.example", path="/ws")
    lane.take(entry, bystander)
    with a_socket(lane) as caller, Caller(lane.port) as far:
        far.send(HANDSHAKE.replace(b"Host: a", b"Host: blog.example"))
        assert far.reply().status == 101
        began = time.monotonic()
        lane.take(leaving(entry, drain_s=1.0), bystander)
        assert caller.exactly(4) == CLOSE_1012
        assert time.monotonic() - began > 0.7
        caller.send(render_close((1012).to_bytes(2, "big"), masked=True))
        assert caller.rest() == b""
        far.send(b"\x81\x01x")
        assert far.exactly(3) == b"\x81\x01x"
    assert old.visits[0].raw.partition(b"\r\n\r\n")[2][:2] == b"\x88\x82"


def test_a_retiring_worker_ends_event_streams_and_websockets_properly_in_the_last_quarter(lane: Lane) -> None:
    lane.take(
        an_app(lane.backend(events, "news")),
        an_app(lane.backend(echo_frames, "chat"), app="chat", host="chat.example", path="/ws"),
    )
    with Caller(lane.port) as reader, Caller(lane.port) as talker:
        reader.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        reader.until(b"x\n\n")
        talker.send(HANDSHAKE.replace(b"Host: a", b"Host: chat.example"))
        assert talker.reply().status == 101
        began = time.monotonic()
        lane.call(lambda: lane.core.retire(2.0))
        assert talker.exactly(4) == CLOSE_1012
        assert time.monotonic() - began > 1.4
        talker.send(render_close((1012).to_bytes(2, "big"), masked=True))
        assert talker.rest() == b""
        assert reader.rest().endswith(b"x\n\n\r\n0\r\n\r\n")


def test_the_close_comes_between_two_frames_never_inside_one(lane: Lane) -> None:
    old = lane.backend(echo_frames, "old")
    lane.take(an_app(old))
    with a_socket(lane) as caller:
        caller.send(b"\x82\x7e\x01\x00" + b"a" * 100)
        assert caller.exactly(104) == b"\x82\x7e\x01\x00" + b"a" * 100
        lane.take(leaving(an_app(old), drain_s=0.4))
        time.sleep(0.45)
        caller.send(b"b" * 156)
        assert caller.exactly(156) + caller.exactly(4) in (b"b" * 156 + CLOSE_1012, b"")


def test_where_no_border_comes_in_time_the_connection_is_reset(lane: Lane) -> None:
    old = lane.backend(echo_frames, "old")
    lane.take(an_app(old))
    with a_socket(lane) as caller:
        caller.send(b"\x82\x7e\x01\x00abc")
        assert caller.exactly(7) == b"\x82\x7e\x01\x00abc"
        lane.take(leaving(an_app(old), drain_s=0.4))
        assert CLOSE_1012 not in caller.rest()
    wait_for(lambda: drained(lane))


def test_a_release_that_comes_back_keeps_its_streams(lane: Lane) -> None:
    old = lane.backend(echo_frames, "old")
    lane.take(an_app(old))
    with a_socket(lane) as caller:
        lane.take(leaving(an_app(old), drain_s=0.3))
        lane.take(an_app(old))
        time.sleep(0.5)
        caller.send(b"\x81\x01x")
        assert caller.exactly(3) == b"\x81\x01x"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_the_cursor_finds_the_same_borders_however_bytes_are_cut(size: int) -> None:
    frames = [
        b"\x81\x05hello",
        b"\x82\x85abcdvwxyz",
        b"\x82\x7e\x00\x80" + b"x" * 128,
        b"\x82\x7f" + (300).to_bytes(8, "big") + b"y" * 300,
    ]
    raw = b"".join(frames)
    cursor = FrameCursor()
    borders, at = [], 0
    while at < len(raw):
        piece = raw[at : at + size]
        step = cursor.feed(piece, Everything(), stop=True)
        at += step
        if cursor.is_at_border():
            borders.append(at)
    assert borders == [sum(len(frame) for frame in frames[: number + 1]) for number in range(len(frames))]


def test_a_request_that_moved_on_is_not_bound_by_the_drain_that_it_left(lane: Lane) -> None:
    async def resets_on_demand(visit: Visit) -> None:
        await visit.head()
        await opened(visit.backend)
        visit.reset()

    old, new = lane.backend(resets_on_demand, "old"), lane.backend(on_demand, "new")
    entry = an_app(old)
    lane.take(entry)
    with Caller(lane.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: old.heads)
        lane.take(leaving(entry, new, drain_s=0.3))
        old.gate = True
        wait_for(lambda: new.heads)
        time.sleep(0.5)
        new.gate = True
        assert caller.reply().body == b"new"


def test_a_replica_with_a_new_address_is_not_told_drained_by_its_old_one(lane: Lane) -> None:
    old, new = lane.backend(on_demand, "same"), lane.backend(polite, "same")
    lane.take(an_app(old))
    with Caller(lane.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: old.heads)
        lane.take(an_app(new))
        assert caller.reply().status == 200
    assert drained(lane) == []
