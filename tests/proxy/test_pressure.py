"""Slow, endless and greedy clients meet a bound, and a bystander is served as if they were not there."""

import asyncio
import contextlib
import socket
import time

from controller.proxy.limits import Limits
from tests.proxy.rig import Caller, Lane, Visit, a_lane, answer, opened, wait_for

QUICK = Limits(header_s=0.3, keepalive_s=0.3, pace_window_s=0.3, linger_s=0.3, reader_window_s=0.3)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_headers_at_a_byte_at_a_time_end_at_an_absolute_deadline() -> None:
    with a_lane(QUICK) as lane:
        lane.serve()
        with Caller(lane.port) as caller:
            began = time.monotonic()
            caller.sock.setblocking(False)
            closed = b""
            for byte in GET[:-2] * 100:
                try:
                    caller.sock.send(bytes((byte,)))
                    closed = caller.sock.recv(65536)
                except BlockingIOError:
                    time.sleep(0.02)
                    continue
                except ConnectionError:
                    pass
                break
            assert closed.startswith(b"HTTP/1.1 408 ")
            assert time.monotonic() - began < 2


def test_a_connection_that_says_nothing_is_closed() -> None:
    with a_lane(QUICK) as lane, Caller(lane.port) as caller:
        assert caller.is_closed()


def test_an_idle_connection_is_closed_but_not_before_its_time() -> None:
    with a_lane(QUICK) as lane:
        lane.serve()
        with Caller(lane.port) as caller:
            assert caller.get().status == 200
            began = time.monotonic()
            assert caller.is_closed()
            assert time.monotonic() - began > 0.25


def test_a_body_that_drips_gets_408() -> None:
    with a_lane(QUICK) as lane:
        lane.serve()
        with Caller(lane.port) as caller:
            caller.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx")
            assert caller.reply().status == 408


def test_a_reader_that_stops_is_cut_and_costs_one_buffer() -> None:
    sent = [0]

    async def endless(visit: Visit) -> None:
        await visit.head()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            await visit.say(b"x" * 65536)
            sent[0] += 65536

    with a_lane(QUICK) as lane:
        (backend,) = lane.serve(endless)
        with Caller(lane.port) as caller:
            caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.send(GET)
            wait_for(lambda: backend.visits)
            wait_for(lambda: backend.open == 0)
        assert sent[0] < 20_000_000
        assert lane.log[-1]["why"] == "client does not read"


def test_a_slow_reader_that_keeps_a_pace_gets_everything() -> None:
    body = b"x" * 3_000_000
    with a_lane(QUICK) as lane:

        async def script(visit: Visit) -> None:
            await visit.head()
            await visit.say(answer(body))

        lane.serve(script)
        with Caller(lane.port) as caller:
            caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            caller.send(GET)
            got = caller.until(b"\r\n\r\n")
            got = caller.buffer
            while len(got) < len(body):
                piece = caller.sock.recv(60_000)
                assert piece
                got += piece
                time.sleep(0.02)
        assert got == body


def test_a_replica_that_does_not_read_stops_the_client_and_ends_in_504() -> None:
    async def deaf(visit: Visit) -> None:
        await visit.head()
        visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(60)

    with a_lane(QUICK) as lane:
        lane.serve(deaf)
        with Caller(lane.port) as caller:
            caller.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
            caller.sock.setblocking(False)
            sent = 0
            reply = b""
            ends = time.monotonic() + 8
            while not reply and time.monotonic() < ends:
                try:
                    sent += caller.sock.send(b"x" * 65536)
                except BlockingIOError:
                    time.sleep(0.01)
                except ConnectionError:
                    pass
                with contextlib.suppress(BlockingIOError):
                    reply = caller.sock.recv(65536)
            assert reply.startswith(b"HTTP/1.1 504 ")
            assert sent < 45_000_000


def test_endless_headers_get_431(lane: Lane) -> None:
    lane.serve()
    with Caller(lane.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"y" * 40_000)
        assert caller.reply().status == 431
    with Caller(lane.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 150 + b"\r\n")
        assert caller.reply().status == 431


def test_a_huge_pipeline_is_not_read_ahead() -> None:
    with a_lane() as lane:

        async def silent(visit: Visit) -> None:
            await visit.head()
            await visit.reader.read()

        (backend,) = lane.serve(silent)
        with Caller(lane.port) as caller:
            caller.sock.setblocking(False)
            sent = 0
            stuck_since = time.monotonic()
            while time.monotonic() - stuck_since < 0.5 and sent < 100_000_000:
                try:
                    sent += caller.sock.send(GET * 2000)
                    stuck_since = time.monotonic()
                except BlockingIOError:
                    time.sleep(0.01)
            assert sent < 50_000_000
            assert len(backend.heads) == 1


def test_a_pipeline_whose_answers_nobody_reads_stops() -> None:
    with a_lane() as lane:

        async def big(visit: Visit) -> None:
            while await visit.head():
                await visit.say(answer(b"x" * 50_000))

        (backend,) = lane.serve(big)
        with Caller(lane.port) as caller:
            caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.send(GET * 2000)
            wait_for(lambda: backend.heads)
            count = -1
            while count != len(backend.heads):
                count = len(backend.heads)
                time.sleep(0.1)
            assert count < 200


def test_a_huge_upload_to_no_route_is_answered_and_ended(lane: Lane) -> None:
    lane.take()
    with Caller(lane.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 10_000)
        assert caller.reply().status == 404
        assert caller.rest() == b""


def test_a_client_that_only_closed_its_own_half_gets_its_answer(lane: Lane) -> None:
    lane.serve()
    with Caller(lane.port) as caller:
        caller.send(GET)
        caller.sock.shutdown(socket.SHUT_WR)
        assert caller.reply().body == b"b0"
        assert caller.is_closed()


def test_a_client_that_may_have_gone_does_not_keep_its_replica_busy() -> None:
    async def silent(visit: Visit) -> None:
        await visit.head()
        await visit.reader.read()

    with a_lane(Limits(half_closed_s=0.2)) as lane:
        (backend,) = lane.serve(silent)
        with Caller(lane.port) as caller:
            caller.send(GET)
            wait_for(lambda: backend.heads)
        wait_for(lambda: backend.open == 0, 3)


def test_a_client_that_leaves_frees_its_replica(lane: Lane) -> None:
    async def silent(visit: Visit) -> None:
        await visit.head()
        await visit.reader.read()

    (backend,) = lane.serve(silent)
    with Caller(lane.port) as caller:
        caller.send(GET)
        wait_for(lambda: backend.heads)
        caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    wait_for(lambda: backend.open == 0)
    assert lane.core.live.apps["shop"].in_flight == 0


def test_connections_are_bounded_per_client_and_in_all() -> None:
    with a_lane(Limits(connections_per_client=2)) as lane:
        lane.serve()
        with Caller(lane.port) as one, Caller(lane.port) as two:
            assert one.get().status == two.get().status == 200
            with Caller(lane.port) as three:
                assert three.is_closed()
        wait_for(lambda: lane.core.counters()["connections"] == 0)
        with Caller(lane.port) as again:
            assert again.get().status == 200


def test_a_bystander_is_served_while_hundreds_are_slow() -> None:
    with a_lane() as lane:
        lane.serve()
        slow = [Caller(lane.port) for _ in range(400)]
        for caller in slow:
            caller.send(b"GET / HTTP/1.1\r\nHost: ")
        with Caller(lane.port) as caller:
            times = []
            for _ in range(200):
                began = time.monotonic()
                assert caller.get().status == 200
                times.append(time.monotonic() - began)
        assert sorted(times)[-2] < 0.5
        for caller in slow:
            caller.close()


def test_a_retiring_worker_serves_what_is_under_way_and_says_close() -> None:
    async def on_gate(visit: Visit) -> None:
        while await visit.head():
            await opened(visit.backend)
            await visit.say(answer(b"late"))

    with a_lane() as lane:
        (backend,) = lane.serve(on_gate)
        emptied = []
        lane.core.on_empty = lambda: emptied.append(True)
        with Caller(lane.port) as busy, Caller(lane.port) as idle:
            busy.send(GET)
            wait_for(lambda: backend.heads)
            lane.call(lambda: lane.core.retire(10))
            backend.gate = True
            reply = busy.reply()
            assert (reply.body, reply.header("connection")) == (b"late", "close")
            reply = idle.get()
            assert (reply.body, reply.header("connection")) == (b"late", "close")
        wait_for(lambda: emptied)


def test_what_outlasts_a_retirement_is_cut() -> None:
    async def silent(visit: Visit) -> None:
        await visit.head()
        await visit.reader.read()

    with a_lane() as lane:
        (backend,) = lane.serve(silent)
        emptied = []
        lane.core.on_empty = lambda: emptied.append(True)
        with Caller(lane.port) as caller:
            caller.send(GET)
            wait_for(lambda: backend.heads)
            lane.call(lambda: lane.core.retire(0.2))
            assert caller.rest() == b""
        wait_for(lambda: emptied)


def test_a_worker_with_nothing_open_is_empty_at_once(lane: Lane) -> None:
    emptied = []
    lane.core.on_empty = lambda: emptied.append(True)
    lane.call(lambda: lane.core.retire(10))
    wait_for(lambda: emptied, 1)


def test_a_trusted_proxy_may_have_more_connections_than_a_client() -> None:
    with a_lane(Limits(connections_per_client=1), trusted_proxies=("127.0.0.1",)) as lane:
        lane.serve()
        with Caller(lane.port) as one, Caller(lane.port) as two:
            assert one.get().status == two.get().status == 200
