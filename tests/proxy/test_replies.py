"""Whatever a replica answers, the client gets a right answer or sees that there is none; nothing hangs."""

import pytest

from controller.proxy.limits import Limits
from tests.proxy.rig import Caller, Lane, Script, Visit, a_lane, answer, polite, wait_for


def says(*pieces: bytes, close: bool = False) -> Script:
    """Answer each request with *pieces*."""

    async def script(visit: Visit) -> None:
        while await visit.head():
            for piece in pieces:
                await visit.say(piece)
            if close:
                return

    return script


OK_ROWS = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;e\r\nk\r\n0\r\n\r\n", b"ok"),
    "chunked with trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n2\r\nok\r\n0\r\nT: x\r\n\r\n",
        b"ok",
    ),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "103 before": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"ok",
    ),
    "100 unasked": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "204 of length nought": (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", b""),
    "304": (b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", b""),
}
CLAIMING_ROWS = {
    "204 that claims a length": b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
    "304 with a length": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "204 that claims chunks": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("row", OK_ROWS, ids=str)
def test_a_right_answer_passes_and_the_connection_is_used_again(lane: Lane, row: str) -> None:
    raw, body = OK_ROWS[row]
    (backend,) = lane.serve(says(raw))
    with Caller(lane.port) as caller:
        for _ in range(3):
            assert caller.get().body == body
    assert len(backend.visits) == 1


@pytest.mark.parametrize("row", CLAIMING_ROWS, ids=str)
def test_an_answer_that_announces_a_body_it_cannot_have_is_the_last_on_its_connection(lane: Lane, row: str) -> None:
    (backend,) = lane.serve(says(CLAIMING_ROWS[row]))
    with Caller(lane.port) as caller:
        for _ in range(3):
            assert caller.get().body == b""
    assert len(backend.visits) == 3


def test_early_hints_reach_the_client(lane: Lane) -> None:
    lane.serve(says(OK_ROWS["103 before"][0]))
    with Caller(lane.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        hints = caller.reply(interim=True)
        assert (hints.status, hints.header("link")) == (103, "</a>")
        assert caller.reply().status == 200


CLOSING_ROWS = {
    "HTTP/1.0 with a length": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "HTTP/1.0 until close": (b"HTTP/1.0 200 OK\r\n\r\nok", b"ok"),
    "until close": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", b"ok"),
    "close with a length": (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok", b"ok"),
}


@pytest.mark.parametrize("row", CLOSING_ROWS, ids=str)
def test_a_replica_that_closes_does_not_close_the_client(lane: Lane, row: str) -> None:
    raw, body = CLOSING_ROWS[row]
    (backend,) = lane.serve(says(raw, close=True))
    with Caller(lane.port) as caller:
        for _ in range(3):
            reply = caller.get()
            assert (reply.body, reply.whole) == (body, True)
    assert len(backend.visits) == 3


GARBAGE_ROWS = {
    "no HTTP": b"hello\r\n\r\n",
    "both lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "no length": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "folded": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
    "NUL": b"HTTP/1.1 200 OK\r\nA: \0\r\nContent-Length: 2\r\n\r\nok",
    "space before colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "bare CR": b"HTTP/1.1 200 OK\r\nA: b\rC: d\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2": b"HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    "status 99": b"HTTP/1.1 099 No\r\nContent-Length: 2\r\n\r\nok",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"A: " + b"b" * 100_000,
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("row", GARBAGE_ROWS, ids=str)
def test_an_answer_that_makes_no_sense_is_a_502_and_its_connection_is_not_used_again(lane: Lane, row: str) -> None:
    (backend,) = lane.serve(says(GARBAGE_ROWS[row], close=row == "nothing"))
    with Caller(lane.port) as caller:
        assert caller.get(method="POST").status == 502
        assert caller.get(method="POST").status == 502
    assert len(backend.visits) == 2
    wait_for(lambda: backend.open == 0)


CUT_ROWS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    "inside a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n",
}


@pytest.mark.parametrize("row", CUT_ROWS, ids=str)
def test_a_cut_answer_is_seen_to_be_cut(lane: Lane, row: str) -> None:
    lane.serve(says(CUT_ROWS[row], close=True))
    with Caller(lane.port) as caller:
        reply = caller.get()
        assert (reply.status, reply.whole) == (200, False) or (row == "bad chunk" and reply.status == 502)


def test_a_reset_of_an_answer_without_a_length_is_not_taken_for_its_end(lane: Lane) -> None:
    async def script(visit: Visit) -> None:
        await visit.head()
        await visit.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsome")
        while not lane_saw_it.is_set():
            await visit.writer.drain()
            await asyncio.sleep(0.01)
        visit.reset()

    import asyncio
    import threading

    lane_saw_it = threading.Event()
    lane.serve(script)
    with Caller(lane.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        caller.until(b"some")
        lane_saw_it.set()
        assert b"0\r\n\r\n" not in caller.rest()


@pytest.mark.parametrize("extra", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"])
def test_bytes_after_an_answer_reach_nobody(lane: Lane, extra: bytes) -> None:
    (backend,) = lane.serve(says(answer(b"ok") + extra))
    with Caller(lane.port) as caller:
        for _ in range(3):
            assert caller.get().body == b"ok"
        caller.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            caller.more()
    assert len(backend.visits) == 3


def test_bytes_after_an_answer_that_come_late_reach_nobody(lane: Lane) -> None:
    async def script(visit: Visit) -> None:
        while await visit.head():
            await visit.say(answer(b"ok"))
            if visit.number == 0:
                await visit.say(answer(b"poison"))
                await visit.reader.read()

    (backend,) = lane.serve(script)
    with Caller(lane.port) as caller:
        assert caller.get().body == b"ok"
        wait_for(lambda: not lane.core.shop.warm or all(not pool._idle for pool in lane.core.shop.warm))
        assert caller.get().body == b"ok"
    assert len(backend.visits) == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_to_head_ends_at_its_headers(lane: Lane, raw: bytes) -> None:
    lane.serve(says(raw))
    with Caller(lane.port) as caller:
        for _ in range(3):
            assert caller.get(method="HEAD").status == 200


def test_the_length_in_an_answer_to_head_is_kept(lane: Lane) -> None:
    lane.serve(says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"))
    with Caller(lane.port) as caller:
        assert caller.get(method="HEAD").header("content-length") == "1000"


@pytest.mark.parametrize("row", [*OK_ROWS, *CLOSING_ROWS], ids=str)
def test_http_1_0_clients_get_no_chunks(lane: Lane, row: str) -> None:
    raw, body = {**OK_ROWS, **CLOSING_ROWS}[row]
    lane.serve(says(raw, close=row in CLOSING_ROWS))
    with Caller(lane.port) as caller:
        caller.send(b"GET / HTTP/1.0\r\n\r\n")
        raw_answer = caller.rest()
    assert b"chunked" not in raw_answer.lower()
    assert raw_answer.partition(b"\r\n\r\n")[2] == body
    assert b" 103 " not in raw_answer


def test_http_1_0_keep_alive_is_honoured_where_the_length_is_known(lane: Lane) -> None:
    lane.serve()
    with Caller(lane.port) as caller:
        for _ in range(2):
            caller.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            reply = caller.reply()
            assert (reply.body, reply.header("connection")) == (b"b0", "keep-alive")


def test_a_body_of_many_reads_passes_whole(lane: Lane) -> None:
    body = bytes(range(256)) * 20_000
    lane.serve(says(answer(body)))
    with Caller(lane.port) as caller:
        assert caller.get().body == body
        assert caller.get().body == body


def test_expect_is_answered_once_the_replica_is_there_and_not_for_what_is_refused(lane: Lane) -> None:
    (backend,) = lane.serve(polite, body_limit_bytes=10)
    with Caller(lane.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert caller.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        caller.send(b"ab")
        assert caller.reply().status == 200
        caller.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\nExpect: 100-continue\r\n\r\n")
        assert caller.reply().status == 413
    assert b"expect" not in backend.heads[0].lower()


def test_a_replica_that_answers_before_the_body_is_there_is_heard(lane: Lane) -> None:
    async def script(visit: Visit) -> None:
        await visit.head()
        await visit.say(answer(b"no", "403 Forbidden", "Connection: close"))

    lane.serve(script)
    with Caller(lane.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nsome")
        reply = caller.reply()
        assert (reply.status, reply.header("connection")) == (403, "close")


def test_a_replica_that_says_nothing_is_a_504() -> None:
    async def silent(visit: Visit) -> None:
        await visit.head()
        await visit.reader.read()

    with a_lane(Limits()) as lane:
        lane.serve(silent, timeout_s=0.2)
        with Caller(lane.port) as caller:
            assert caller.get().status == 504


def test_endless_interim_answers_are_a_502(lane: Lane) -> None:
    lane.serve(says(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5000))
    with Caller(lane.port) as caller:
        assert caller.get(method="POST").status == 502
