"""However small the units of what one client or replica sends, a turn of the event loop does a bounded piece of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controller.routing.table import Policy, RateLimit, Redirect
from tests.proxy.rig import Caller, Lane, Visit, a_lane, an_app, answer, polite, wait_for
from tests.proxy.shop import Shop
from tests.proxy.test_drain import HANDSHAKE, SWITCH

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
FLOOD = 60_000
"""Bytes that fit into a socket's buffers while the lane does not read."""
REQUESTS = 64
"""More of them than this are never answered in one turn."""
UNITS = 2_500
"""Nor are more chunks, frames or records passed on."""


class Turnstile:
    """Notes how far something got in each turn of the lane's loop."""

    def __init__(self, lane: Lane, measure: Callable[[], int]) -> None:
        self.lane = lane
        self.measure = measure
        self.steps: list[int] = []
        self.over = False
        self._last = 0

    def _look(self) -> None:
        now = self.measure()
        if now > self._last:
            self.steps.append(now - self._last)
            self._last = now
        if not self.over:
            self.lane.loop.call_soon(self._look)

    def __enter__(self) -> Turnstile:
        self._last = self.lane.call(self.measure)
        self.lane.call(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self.over = True
        self.lane.call(self._look)


@contextlib.contextmanager
def deaf(lane: Lane) -> Iterator[None]:
    """Hold the lane's loop, so that all that is sent meanwhile is there at once."""
    go_on, holds = threading.Event(), threading.Event()
    lane.loop.call_soon_threadsafe(lambda: (holds.set(), go_on.wait(10)))
    assert holds.wait(10)
    try:
        yield
    finally:
        go_on.set()


def exchange_of(lane: Lane) -> Any:
    exchanges = [getattr(client, "_exchange", None) for client in list(lane.core.clients)]
    return next((exchange for exchange in exchanges if exchange is not None), None)


def test_every_answer_of_our_own_is_given_a_few_at_a_time() -> None:
    rows: dict[int, dict[str, Any]] = {
        404: {},
        308: {"policy": Policy(https="redirect")},
        403: {"policy": Policy(https="only")},
        301: {"policy": Policy(redirects=(Redirect(source="/", to="/new"),))},
        401: {"policy": Policy(basic_auth=("a:{SHA}NWoZK3kTsExUV00Ywo1G5jlUKKs=",))},
        429: {"policy": Policy(max_in_flight=0)},
        503: {"mode": "maintenance"},
    }
    for status, wish in rows.items():
        with a_lane() as lane:
            if wish:
                lane.take(an_app(lane.backend(), **wish))
            count = FLOOD // len(GET)
            with Caller(lane.port) as caller, Turnstile(lane, lambda lane=lane: len(lane.log)) as seen:
                with deaf(lane):
                    caller.send(GET * count)
                assert [caller.reply().status for _ in range(count)] == [status] * count
            assert max(seen.steps) <= REQUESTS, status


def test_a_rate_limit_answers_a_few_at_a_time(lane: Lane) -> None:
    lane.take(an_app(lane.backend(), policy=Policy(rate_limit=RateLimit(requests=1, per_s=60))))
    count = FLOOD // len(GET)
    with Caller(lane.port) as caller, Turnstile(lane, lambda: len(lane.log)) as seen:
        with deaf(lane):
            caller.send(GET * count)
        assert [caller.reply().status for _ in range(count)] == [200] + [429] * (count - 1)
    assert max(seen.steps) <= REQUESTS


def test_chunks_of_one_byte_go_up_a_few_at_a_time(lane: Lane) -> None:
    (backend,) = lane.serve(swallow)
    count = FLOOD // 6
    with Caller(lane.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        wait_for(lambda: backend.heads)
        with Turnstile(lane, lambda: getattr(exchange_of(lane), "bytes_in", 0)) as seen:
            with deaf(lane):
                caller.send(b"1\r\nx\r\n" * count + b"0\r\n\r\n")
            reply = caller.reply()
    assert (reply.status, reply.body) == (200, b"%d" % count)
    assert max(seen.steps) <= UNITS


async def swallow(visit: Visit) -> None:
    """Read a chunked upload, and answer with how many bytes it had."""
    while await visit.head():
        total = 0
        while size := int(await visit.until(b"\r\n"), 16):
            total += size
            await visit.exactly(size + 2)
        await visit.until(b"\r\n")
        await visit.say(answer(b"%d" % total))


def test_chunks_of_one_byte_come_down_a_few_at_a_time(lane: Lane) -> None:
    count = FLOOD // 6

    async def tiny(visit: Visit) -> None:
        while await visit.head():
            visit.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            visit.writer.write(b"1\r\nx\r\n" * count + b"0\r\n\r\n")
            await visit.writer.drain()

    lane.serve(tiny)
    for _ in range(2):
        with Caller(lane.port) as caller, Turnstile(lane, lambda: getattr(exchange_of(lane), "bytes_out", 0)) as seen:
            caller.send(GET)
            reply = caller.reply()
            assert (reply.whole, reply.body) == (True, b"x" * count)
        assert max(seen.steps) <= UNITS


def frames(count: int, *, masked: bool) -> bytes:
    return (b"\x82\x81\0\0\0\0x" if masked else b"\x82\x01x") * count


@pytest.mark.parametrize("way", ["up", "down"])
def test_frames_of_one_byte_pass_a_few_at_a_time(lane: Lane, way: str) -> None:
    sent = frames(FLOOD // 7, masked=way == "up")

    async def switch(visit: Visit) -> None:
        await visit.head()
        await visit.say(SWITCH)
        await visit.exactly(1)
        if way == "down":
            await visit.say(sent)
        await visit.reader.read()

    def passed() -> int:
        tunnel = getattr(exchange_of(lane), "tunnel", None)
        return max(tunnel._bytes_in, tunnel._bytes_out) // (len(sent) // (FLOOD // 7)) if tunnel else 0

    (backend,) = lane.serve(switch)
    with Caller(lane.port) as caller:
        caller.send(HANDSHAKE)
        assert caller.reply().status == 101
        with Turnstile(lane, passed) as seen:
            with deaf(lane):
                caller.send(sent if way == "up" else sent[:1])
            if way == "down":
                assert caller.exactly(len(sent)) == sent
            else:
                wait_for(lambda: passed() >= FLOOD // 7 - 1)
    assert max(seen.steps) <= UNITS
    assert backend.heads


def test_a_pipeline_behind_a_tunnel_that_was_asked_for_is_its_frames(lane: Lane) -> None:
    sent = frames(2_000, masked=True)

    async def echo(visit: Visit) -> None:
        await visit.head()
        await visit.say(SWITCH)
        await visit.say(await visit.exactly(len(sent)))
        await visit.reader.read()

    lane.serve(echo)
    with Caller(lane.port) as caller:
        caller.send(HANDSHAKE + sent)
        assert caller.reply().status == 101
        assert caller.exactly(len(sent)) == sent


def test_tls_records_of_one_byte_are_opened_a_few_at_a_time(shop: Shop) -> None:
    lane = shop.lane
    shop.take(**{"shop.example": shop.issue("shop.example")})
    count = FLOOD // 30
    with shop.call("shop.example") as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: %d\r\n\r\n" % count)
        wait_for(lambda: exchange_of(lane))
        with Turnstile(lane, lambda: getattr(exchange_of(lane), "bytes_in", 0)) as seen:
            with deaf(lane):
                for _ in range(count):
                    caller.send(b"x")
            assert caller.reply().status == 200
        assert caller.get(host="shop.example").status == 200
    assert max(seen.steps) <= 600


def test_held_requests_go_on_a_few_in_a_turn_and_in_order(lane: Lane) -> None:
    backend = lane.backend(polite)
    lane.take(an_app(backend, mode="hold"))
    callers = [Caller(lane.port) for _ in range(200)]
    for number, caller in enumerate(callers):
        caller.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        wait_for(lambda number=number: held(lane) == number + 1)
    with Turnstile(lane, lambda: -held(lane)) as seen:
        lane.take(an_app(backend))
        assert [caller.reply().status for caller in callers] == [200] * 200
    assert max(seen.steps) <= REQUESTS
    assert held(lane) == lane.core.live.apps["shop"].held_bytes == 0
    for caller in callers:
        caller.close()


def held(lane: Lane) -> int:
    app = lane.core.live.apps.get("shop")
    return len(app.held) if app is not None else 0


def test_requests_that_are_being_let_go_wait_again_where_the_next_table_holds(lane: Lane) -> None:
    old, new = lane.backend(polite, "old"), lane.backend(polite, "new")
    lane.take(an_app(old, mode="hold"))
    callers = [Caller(lane.port) for _ in range(100)]
    for caller in callers:
        caller.send(GET)
    wait_for(lambda: held(lane) == 100)
    serving, holding = an_app(old), an_app(old, mode="hold")

    def both() -> None:
        version = lane._version + 1
        for step, routes in enumerate((serving, holding)):
            lane.core.take(a_table(routes, version + step))
        lane._version = version + 1

    lane.call(both)
    waiting = held(lane)
    assert 0 < waiting < 100
    gone_on = 100 - waiting
    assert [caller.reply().body for caller in callers[:gone_on]] == [b"old"] * gone_on
    lane.take(an_app(new))
    assert [caller.reply().body for caller in callers[gone_on:]] == [b"new"] * waiting
    for caller in callers:
        caller.close()


def a_table(routes: Any, version: int) -> Any:
    from controller.routing.table import Table

    return Table(version=version, apps={routes.app: routes}, sticky_key="key")


@pytest.mark.parametrize("kind", ["requests", "chunks"])
def test_a_neighbour_is_answered_after_a_bounded_number_of_units(kind: str) -> None:
    with a_lane() as lane:
        shop = lane.backend(polite, "shop")
        lane.take(an_app(shop, host="shop.example"), an_app(lane.backend(swallow, "sink"), app="sink", host="sink"))
        flood = GET * (FLOOD // len(GET)) if kind == "requests" else b"1\r\nx\r\n" * (FLOOD // 6)
        with contextlib.ExitStack() as stack:
            floods = [stack.enter_context(Caller(lane.port)) for _ in range(8)]
            for caller in floods:
                if kind == "chunks":
                    caller.send(b"POST / HTTP/1.1\r\nHost: sink\r\nTransfer-Encoding: chunked\r\n\r\n")
            neighbour = stack.enter_context(Caller(lane.port))
            assert neighbour.get().status == 200
            done: list[int] = []
            lane.core.access_log = lambda line: done.append(1 if b'"app":"shop"' in line.replace(b" ", b"") else 0)
            with deaf(lane):
                for caller in floods:
                    caller.send(flood)
                neighbour.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
                before = progress(lane)
            assert neighbour.reply().status == 200
            seen = done.index(1) if kind == "requests" else (progress(lane) - before)
        assert seen < (2_000 if kind == "requests" else 8 * FLOOD // 12), "the floods were mostly done before"


def progress(lane: Lane) -> int:
    exchanges = [client._exchange for client in list(lane.core.clients)]  # type: ignore[attr-defined]
    return sum(exchange.bytes_in for exchange in exchanges if exchange is not None)


def test_a_client_that_goes_while_its_flood_waits_leaves_nothing_behind(lane: Lane) -> None:
    for _ in range(4):
        with Caller(lane.port) as caller:
            with deaf(lane):
                caller.send(GET * (FLOOD // len(GET)))
            caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    wait_for(lambda: not lane.core.clients)
    with Caller(lane.port) as caller:
        assert caller.get().status == 404
