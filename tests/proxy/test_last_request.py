"""The last request of a connection: nothing after it is read as one, and all before it are answered."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from controller.routing.table import Policy, Redirect
from tests.proxy.rig import Caller, Lane, Visit, an_app, answer, polite, wait_for
from tests.proxy.test_hold import held

AFTER = b"POST /after HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
LAST = {
    "close": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "close among others": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    "HTTP/1.0 with close": b"GET / HTTP/1.0\r\nHost: a\r\nConnection: close\r\n\r\n",
    "HTTP/1.0 that says both": b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n",
}
ANSWERS: dict[int, dict[str, Any]] = {
    200: {},
    301: {"policy": Policy(redirects=(Redirect(source="/", to="/new"),))},
    308: {"policy": Policy(https="redirect")},
    401: {"policy": Policy(basic_auth=("a:{SHA}NWoZK3kTsExUV00Ywo1G5jlUKKs=",))},
    403: {"policy": Policy(https="only")},
    404: {"host": "elsewhere"},
    429: {"policy": Policy(max_in_flight=0)},
    503: {"mode": "maintenance"},
}


@pytest.mark.parametrize("cut", ["at once", "apart"])
@pytest.mark.parametrize("last", LAST)
def test_nothing_after_the_last_request_is_carried_out_whoever_answers_it(lane: Lane, last: str, cut: str) -> None:
    backend = lane.backend()
    after = lane.backend(polite, "after")
    for status, wish in ANSWERS.items():
        # What follows would go to another app, which answers all.
        lane.take(an_app(backend, **wish), an_app(after, app="after", path="/after"))
        with Caller(lane.port) as warm:
            assert warm.get("/after").status == 200  # and leaves a connection on which a request could go at once
        with Caller(lane.port) as caller:
            pieces = (LAST[last] + AFTER * 3,) if cut == "at once" else (LAST[last], AFTER * 3)
            for piece in pieces:
                try:
                    caller.send(piece)
                except ConnectionError:
                    assert cut == "apart", "it was closed already"
            reply = caller.reply()
            assert (reply.status, reply.header("connection")) == (status, "close")
            assert caller.rest() == b""
    wait_for(lambda: not lane.core.clients)
    assert not [head for head in after.heads if head.startswith(b"POST")]


def test_nothing_after_a_last_request_that_was_held_is_carried_out(lane: Lane) -> None:
    (backend,) = lane.serve()
    lane.take(an_app(backend, mode="hold"))
    with Caller(lane.port) as caller:
        caller.send(LAST["close"] + AFTER)
        wait_for(lambda: held(lane) == 1)
        caller.send(AFTER)
        lane.take(an_app(backend))
        assert caller.reply().status == 200
        assert caller.rest() == b""
    assert len(backend.heads) == 1


def test_nothing_after_a_request_whose_body_was_left_unread_is_carried_out(lane: Lane) -> None:
    (backend,) = lane.serve(polite, body_limit_bytes=10)
    with Caller(lane.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n" + AFTER * 9)
        assert caller.reply().status == 413
        assert caller.rest() == b""
    assert backend.heads == []


async def echo_path(visit: Visit) -> None:
    while head := await visit.head():
        await visit.say(answer(head.split(b" ")[1]))


def asking(count: int) -> bytes:
    return b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(count))


@pytest.mark.parametrize("count", [1, 2, 7, 500])
def test_a_client_that_asks_many_times_and_ends_its_side_at_once_gets_all_answers(lane: Lane, count: int) -> None:
    lane.serve(echo_path)
    with Caller(lane.port) as caller:
        caller.send(asking(count))
        caller.sock.shutdown(socket.SHUT_WR)
        assert [caller.reply().body for _ in range(count)] == [b"/%d" % number for number in range(count)]
        assert caller.is_closed()
    wait_for(lambda: not lane.core.clients)


@pytest.mark.parametrize("count", [1, 3, 3_000])
def test_so_does_one_whom_we_answer_ourselves(lane: Lane, count: int) -> None:
    lane.take()
    with Caller(lane.port) as caller:
        caller.send(asking(count))
        caller.sock.shutdown(socket.SHUT_WR)
        assert [caller.reply().status for _ in range(count)] == [404] * count
        assert caller.is_closed()


def test_bodies_among_them_are_passed_on_and_the_start_of_one_more_request_is_dropped(lane: Lane) -> None:
    (backend,) = lane.serve()
    post = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    chunked = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    for rest in (b"", b"\r\n", b"GET / HTTP/1.1\r\nHo", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhell"):
        backend.heads.clear()
        with Caller(lane.port) as caller:
            caller.send(post + chunked + post + rest)
            caller.sock.shutdown(socket.SHUT_WR)
            assert [caller.reply().status for _ in range(3)] == [200, 200, 200]
            assert caller.rest() == b""
        assert [head.split()[1] for head in backend.heads][:3] == [b"/p", b"/c", b"/p"]
        wait_for(lambda: not lane.core.clients)
        assert lane.core.live.apps["shop"].in_flight == 0


def test_a_client_that_is_gone_after_its_end_leaves_nothing_open(lane: Lane) -> None:
    lane.serve(echo_path)
    with Caller(lane.port) as caller:
        caller.send(asking(500))
    wait_for(lambda: not lane.core.clients)
    assert lane.core.live.apps["shop"].in_flight == 0
