"""Requests and answers that are right and seldom, each as docs/proxy.md says, wherever their bytes are cut."""

from __future__ import annotations

import contextlib
import re

import pytest

from controller.proxy.limits import Limits
from tests.proxy.rig import Caller, Lane, Visit, a_lane, answer, polite, wait_for

GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"

PASSED = {
    "QUERY with a body": (
        b"QUERY /q HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        b"QUERY /q HTTP/1.1\r\nHost: a\r\n",
    ),
    "a method with a hyphen": (b"VERSION-CONTROL /x HTTP/1.1\r\nHost: a\r\n\r\n", b"VERSION-CONTROL /x HTTP/1.1\r\n"),
    "a method of somebody's own": (b"BAN_2 / HTTP/1.1\r\nHost: a\r\n\r\n", b"BAN_2 / HTTP/1.1\r\n"),
    "the longest method": (b"X" * 32 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", b"X" * 32 + b" / HTTP/1.1\r\n"),
    "an empty line before": (b"\r\n" + GOOD, b"GET /good "),
    "many empty lines before": (b"\r\n" * 9 + GOOD, b"GET /good "),
    "OPTIONS of a host": (b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n"),
    "OPTIONS of its root": (b"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS / HTTP/1.1\r\n"),
    "OPTIONS of a query": (b"OPTIONS http://a?x HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS /?x HTTP/1.1\r\n"),
    "GET of a host": (b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\n"),
    "OPTIONS that may go on": (
        b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 007\r\nX: y\r\n\r\n",
        b"Max-Forwards: 6\r\nX: y\r\n",
    ),
    "TRACE that may go on": (b"TRACE / HTTP/1.1\r\nHost: a\r\nMAX-FORWARDS: 1\r\n\r\n", b"Max-Forwards: 0\r\n"),
    "Max-Forwards that Connection names": (
        b"TRACE / HTTP/1.1\r\nHost: a\r\nConnection: Max-Forwards\r\nMax-Forwards: 9\r\n\r\n",
        b"Max-Forwards: 8\r\n",
    ),
    "Max-Forwards of others": (b"GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", b"Max-Forwards: 0\r\n"),
    "an expectation without a body": (
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forw",
    ),
    "an expectation of HTTP/1.0": (
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
    ),
    "a Via of others": (b"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 cache\r\n\r\n", b"\r\nVia: 1.1 cache\r\n"),
}


@pytest.mark.parametrize("row", PASSED)
def test_a_seldom_request_passes_as_one_message_wherever_it_is_cut(lane: Lane, row: str) -> None:
    (backend,) = lane.serve()
    raw, wanted = PASSED[row]
    for cut in range(len(raw)):
        backend.heads.clear()
        with Caller(lane.port) as caller:
            caller.send(raw[:cut])
            caller.send(raw[cut:] + GOOD)
            assert [caller.reply().status for _ in range(2)] == [200, 200], cut
        assert len(backend.heads) == 2
        assert wanted in backend.heads[0]
        assert backend.heads[1].startswith(b"GET /good ")


ANSWERED = {
    "an unknown expectation": (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\nx", 417),
    "two expectations": (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\nContent-Length: 1\r\n\r\nx", 417),
    "the same expectation twice": (
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        417,
    ),
}


@pytest.mark.parametrize("row", ANSWERED)
def test_what_cannot_be_met_is_answered_alike_wherever_it_is_cut(lane: Lane, row: str) -> None:
    (backend,) = lane.serve()
    raw, status = ANSWERED[row]
    for cut in range(len(raw)):
        with Caller(lane.port) as caller:
            caller.send(raw[:cut])
            try:
                caller.send(raw[cut:] + GOOD)
            except ConnectionError:
                assert cut > raw.index(b"\r\n\r\n"), "it was answered before its end"
            reply = caller.reply()
            assert (reply.status, reply.header("connection")) == (status, "close")
            assert caller.rest() == b""
    assert backend.heads == []


SMALL = Limits(header_bytes=64)
TOO_LONG = {
    "a target": (b"GET /" + b"x" * 80 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "a target without an end": (b"GET /" + b"x" * 200, 414),
    "headers": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 80 + b"\r\n\r\n", 431),
    "headers without an end": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 200, 431),
    "another protocol": (b"\x16\x03\x01" + b"x" * 200, 400),
    "a bare LF": (b"GET /\n" + b"x" * 200, 400),
    "a bare LF beyond the limit": (b"GET /" + b"x" * 80 + b"\n" + b"x" * 80, 414),
    "no method": (b"x" * 200, 400),
}


@pytest.mark.parametrize("row", TOO_LONG)
def test_what_is_too_long_is_answered_alike_wherever_it_is_cut(row: str) -> None:
    raw, status = TOO_LONG[row]
    with a_lane(SMALL) as lane:
        lane.serve()
        for cut in range(len(raw)):
            with Caller(lane.port) as caller:
                caller.send(raw[:cut])
                with contextlib.suppress(ConnectionError):
                    caller.send(raw[cut:])
                assert caller.reply().status == status, cut


@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 204), ("TRACE", 405)])
def test_a_request_that_may_go_no_further_is_answered_here(lane: Lane, method: str, status: int) -> None:
    (backend,) = lane.serve()
    with Caller(lane.port) as caller:
        caller.send(f"{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nCookie: secret\r\n\r\n".encode())
        reply = caller.reply()
        assert (reply.status, reply.header("allow")) == (status, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
        assert b"secret" not in reply.head + reply.body
        assert (status != 204) or (reply.header("content-length"), reply.header("content-type")) == (None, None)
        assert caller.get().status == 200
    assert len(backend.heads) == 1


def test_who_may_not_come_in_is_not_told_what_is_here(lane: Lane) -> None:
    lane.serve(polite, allow=("10.9.8.7/32",))
    with Caller(lane.port) as caller:
        assert caller.get("/", "Max-Forwards: 0", method="OPTIONS").status == 403


def test_answers_of_our_own_tell_http_1_0_that_the_connection_is_kept(lane: Lane) -> None:
    lane.take()
    with Caller(lane.port) as caller:
        for _ in range(2):
            caller.send(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            reply = caller.reply()
            assert (reply.status, reply.header("connection")) == (404, "keep-alive")
        caller.send(b"GET / HTTP/1.0\r\n\r\n")
        assert caller.reply().header("connection") == "close"
        assert caller.is_closed()
    with Caller(lane.port) as caller:
        assert caller.get().header("connection") is None


DATE = re.compile(rb"\r\nDate: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n")


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "204 No Content", "304 Not Modified"])
def test_an_answer_without_a_date_gets_one_and_another_keeps_its_own(lane: Lane, status: str) -> None:
    own = "Date: Sun, 06 Nov 1994 08:49:37 GMT"

    async def script(visit: Visit) -> None:
        while head := await visit.head():
            lines = [own] if b"/dated" in head else []
            raw = answer(b"", status, *lines)
            await visit.say(raw.replace(b"Content-Length: 0\r\n", b"") if status[:3] in ("204", "304") else raw)

    lane.serve(script)
    with Caller(lane.port) as caller:
        head = caller.get("/").head
        assert len(DATE.findall(head)) == head.lower().count(b"\r\ndate:") == 1
        head = caller.get("/dated").head
        assert head.lower().count(b"\r\ndate:") == 1
        assert own.encode() in head


KEY = "dGhlIHNhbXBsZSBub25jZQ=="
RIGHT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
WRONG = {
    "missing": [],
    "of another key": ["Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA="],
    "the key itself": [f"Sec-WebSocket-Accept: {KEY}"],
    "in small letters": [f"Sec-WebSocket-Accept: {RIGHT.lower()}"],
    "twice": [f"Sec-WebSocket-Accept: {RIGHT}", f"Sec-WebSocket-Accept: {RIGHT}"],
    "right and wrong": [f"Sec-WebSocket-Accept: {RIGHT}", "Sec-WebSocket-Accept: x"],
    "empty": ["Sec-WebSocket-Accept:"],
}


def switching(*lines: str) -> bytes:
    return "\r\n".join(("HTTP/1.1 101 X", "Upgrade: websocket", "Connection: Upgrade", *lines, "", "")).encode()


@pytest.mark.parametrize("row", [*WRONG, "right"])
def test_only_a_101_that_answers_the_very_key_opens_a_tunnel(lane: Lane, row: str) -> None:
    lines = WRONG.get(row, [f"sec-websocket-accept:  {RIGHT} "])

    async def script(visit: Visit) -> None:
        await visit.head()
        await visit.say(switching(*lines))
        await visit.reader.read()

    (backend,) = lane.serve(script)
    with Caller(lane.port) as caller:
        reply = caller.get(
            "/", "Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13"
        )
        assert reply.status == (101 if row == "right" else 502)
    wait_for(lambda: backend.open == 0)
    assert len(backend.heads) == 1


def test_two_keys_ask_for_no_websocket(lane: Lane) -> None:
    (backend,) = lane.serve()
    with Caller(lane.port) as caller:
        keys = (f"Sec-WebSocket-Key: {KEY}", f"Sec-WebSocket-Key: {KEY}")
        assert (
            caller.get("/", "Connection: Upgrade", "Upgrade: websocket", *keys, "Sec-WebSocket-Version: 13").status
            == 200
        )
    assert b"pgrade" not in backend.heads[0]


TWINS = (
    "X_Forwarded_For", "X-Forwarded_For", "x_forwarded_proto", "X.Forwarded.Host", "X_Real_IP", "X_Request_ID",
    "X_Forwarded_Anything", "Transfer_Encoding", "Content_Length", "Proxy_Connection", "X_Oton_Upstream", "X~Forwarded~For",
    "Keep_Alive", "X_FORWARDED_PORT", "Http2_Settings",
)  # fmt: skip


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("name", TWINS)
def test_a_name_that_a_replica_may_take_for_ours_never_passes(name: str, trusted: bool) -> None:
    with a_lane(trusted_proxies=("127.0.0.1",) if trusted else ()) as lane:
        (backend,) = lane.serve()
        with Caller(lane.port) as caller:
            assert caller.get("/", f"{name}: forged", "api_key: kept", "X_Forward: kept").status == 200
    assert b"forged" not in backend.heads[0]
    assert backend.heads[0].count(b"kept") == 2


def test_what_an_app_removes_or_sets_goes_under_every_spelling(lane: Lane) -> None:
    from controller.routing.table import HeaderEdit

    (backend,) = lane.serve(polite, request_headers=HeaderEdit(set=(("X-User", "ours"),), remove=("X-Secret",)))
    with Caller(lane.port) as caller:
        lines = ("X_User: forged", "x.user: forged", "X_Secret: forged", "X-Secret: forged", "X_Users: kept")
        assert caller.get("/", *lines).status == 200
    assert b"forged" not in backend.heads[0]
    assert b"X-User: ours\r\n" in backend.heads[0]
    assert b"X_Users: kept\r\n" in backend.heads[0]
