"""The everyday: a request reaches a replica and its answer comes back whole."""

from tests.proxy.rig import Caller, Lane, Visit, answer, polite, wait_for


def test_a_request_is_forwarded_and_answered(lane: Lane) -> None:
    (backend,) = lane.serve()
    with Caller(lane.port) as caller:
        reply = caller.get("/a?b=c", "Accept: */*")
    assert (reply.status, reply.body) == (200, b"b0")
    assert backend.heads[0].startswith(b"GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\nAccept: */*\r\n")


def test_many_requests_share_one_connection_on_both_sides(lane: Lane) -> None:
    (backend,) = lane.serve()
    with Caller(lane.port) as caller:
        assert [caller.get().body for _ in range(20)] == [b"b0"] * 20
    assert len(backend.visits) == 1


def test_pipelined_requests_are_answered_one_by_one_in_order(lane: Lane) -> None:
    async def echo(visit: Visit) -> None:
        while head := await visit.head():
            await visit.say(answer(head.split(b" ")[1]))

    lane.serve(echo)
    with Caller(lane.port) as caller:
        caller.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(50)))
        assert [caller.reply().body for _ in range(50)] == [b"/%d" % number for number in range(50)]


def test_a_body_of_known_length_reaches_the_replica_whole(lane: Lane) -> None:
    (backend,) = lane.serve()
    body = bytes(range(256)) * 4096
    with Caller(lane.port) as caller:
        assert caller.get(method="POST", body=body).status == 200
        assert caller.get().status == 200
    assert backend.visits[0].raw.partition(b"\r\n\r\n")[2].startswith(body)


def test_a_chunked_body_reaches_the_replica_whole(lane: Lane) -> None:
    (backend,) = lane.serve()
    with Caller(lane.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhel")
        caller.send(b"lo\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n")
        assert caller.reply().status == 200
        assert caller.get().status == 200
    assert b"5\r\nhello" not in backend.visits[0].raw.partition(b"\r\n\r\n")[0]
    assert backend.visits[0].raw.count(b"0\r\n\r\n") >= 1


def test_no_route_is_404_and_no_replica_is_503(lane: Lane) -> None:
    lane.serve()
    with Caller(lane.port) as caller:
        assert caller.get().status == 200
        lane.take()
        assert caller.get().status == 404


def test_the_log_tells_each_request_once(lane: Lane) -> None:
    lane.serve(polite)
    with Caller(lane.port) as caller:
        caller.get("/x?secret=1")
    entry = wait_for(lambda: lane.log)[0]
    assert (entry["status"], entry["path"], entry["app"], entry["upstream"]) == (200, "/x", "shop", "b0")


def test_whatever_a_client_sends_a_log_line_is_json(lane: Lane) -> None:
    lane.serve()
    for path in ('/"', "/\\x", "/{}%22", "/'"):
        with Caller(lane.port) as caller:
            caller.send(f'GET {path} HTTP/1.1\r\nHost: a\r\nX-Request-ID: "x\r\n\r\n'.encode())
            caller.reply()
    wait_for(lambda: len(lane.log) == 4)
    assert [entry.get("path") for entry in lane.log if entry["status"] == 200] == ['/"', "/{}%22", "/'"]


def test_the_log_shows_where_a_refused_request_began_and_not_its_query(lane: Lane) -> None:
    lane.serve()
    for line in (
        b"GET /a%2Fb?secret=1 HTTP/1.1",
        b"\x16\x03\x01 hello",
        b"GET /" + b"x" * 1000 + b" HTTP/9.9",
        b"GET / HTTP/1.1\nAuthorization: Bearer secret",
        b"Authorization: Bearer secret",
    ):
        with Caller(lane.port) as caller:
            caller.send(line + b"\r\nHost: a\r\n\r\n")
            assert caller.reply().status in (400, 505)
    shown = [entry["line"] for entry in wait_for(lambda: len(lane.log) == 5 and lane.log)]
    assert shown == ["GET /a%2Fb", "\x16\x03\x01 hell", "GET /" + "x" * 251, "GET / HTTP/1.1", "Authoriz"]
