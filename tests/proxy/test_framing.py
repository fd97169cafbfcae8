"""What two parsers could read differently is refused, or forwarded as exactly one message; seen from both ends."""

import pytest

from tests.proxy.rig import Caller, Lane, wait_for

GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"

REFUSED = {
    "both lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, other order": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "repeated length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "listed length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx",
    "signed length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
    "negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nx",
    "hex length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\nx",
    "underscored length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n0123456789",
    "empty length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\nx",
    "length with a space inside": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 0\r\n\r\n0123456789",
    "huge length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nx",
    "gzip, chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
    "xchunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "quoted chunked": b'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "vertical tab before chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "space before TE's colon": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "tab before colon": b"GET / HTTP/1.1\r\nHost: a\r\nX\t: y\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
    "folded with a tab": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n",
    "folded first header": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    "empty name": b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
    "bare LF after the line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF after a header": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\nHost: a\n\n",
    "only bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare CR in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rZ: w\r\n\r\n",
    "bare CR after the line": b"GET / HTTP/1.1\rHost: a\r\n\r\n",
    "CR CR LF": b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "bell in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: \x07\r\n\r\n",
    "DEL in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\nX: y\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "the same Host twice": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "Host list": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "Host with a user": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "absolute target of another host": b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "absolute target with a user": b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "another scheme": b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "relative target": b"GET good HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment": b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/1.10": b"GET / HTTP/1.10\r\nHost: a\r\n\r\n",
    "lower-case http": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS on the plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "method with a sign": b"FO:O / HTTP/1.1\r\nHost: a\r\n\r\n",
    "method that begins with a digit": b"1GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "method without an end": b"X" * 33 + b" / HTTP/1.1\r\nHost: a\r\n\r\n",
    "mixed-case method": b"Get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET *": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST *": b"POST * HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
    "an unknown method of *": b"QUERY * HTTP/1.1\r\nHost: a\r\n\r\n",
    "absolute target without a host": b"GET http:///x HTTP/1.1\r\nHost: \r\n\r\n",
    "absolute target of a port alone": b"GET http://:80/ HTTP/1.1\r\nHost: \r\n\r\n",
    "absolute target without a Host": b"GET http://a/ HTTP/1.1\r\n\r\n",
    "absolute target of another port": b"GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "Max-Forwards that is no number": b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: x\r\n\r\n",
    "two Max-Forwards": b"TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\nMax-Forwards: 0\r\n\r\n",
    "bare LF after an empty line": b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "bare CR before the line": b"\r\n\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "lower-case method": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces before the version": b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab in the line": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "leading space": b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "trailing space": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "byte above 127 in the target": b"GET /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n",
    "encoded slash": b"GET /a%2fb HTTP/1.1\r\nHost: a\r\n\r\n",
    "encoded NUL": b"GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n",
}

BAD_CHUNKS = {
    "size is no number": b"z\r\nx\r\n0\r\n\r\n",
    "signed size": b"+1\r\nx\r\n0\r\n\r\n",
    "0x size": b"0x1\r\nx\r\n0\r\n\r\n",
    "empty size": b"\r\nx\r\n0\r\n\r\n",
    "space before the size": b" 1\r\nx\r\n0\r\n\r\n",
    "space after the size": b"1 \r\nx\r\n0\r\n\r\n",
    "bare LF after the size": b"1\nx\r\n0\r\n\r\n",
    "bare LF after the data": b"1\r\nx\n0\r\n\r\n",
    "data longer than the size": b"1\r\nxy\r\n0\r\n\r\n",
    "overlong size": b"1" + b"0" * 20 + b"\r\nx",
    "endless extension": b"1;" + b"x" * 5000,
    "NUL in an extension": b"1;a=\0\r\nx\r\n0\r\n\r\n",
    "bare CR in an extension": b"1;a=\rb\r\nx\r\n0\r\n\r\n",
    "bad trailer": b"0\r\nno colon\r\n\r\n",
    "folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
}


def heads(lane: Lane, backend: object) -> list[bytes]:
    return list(backend.heads)  # type: ignore[attr-defined]


@pytest.mark.parametrize("spelling", REFUSED, ids=str)
@pytest.mark.parametrize("kept_alive", [False, True], ids=["fresh", "kept alive"])
def test_a_doubtful_request_is_refused_and_nothing_after_it_is_read(
    lane: Lane, spelling: str, kept_alive: bool
) -> None:
    (backend,) = lane.serve()
    before = 0
    with Caller(lane.port) as caller:
        if kept_alive:
            assert caller.get("/first").status == 200
            before = 1
        caller.send(REFUSED[spelling] + GOOD)
        assert caller.reply().status == 400
        assert caller.rest() == b""
    assert len(backend.heads) == before


@pytest.mark.parametrize("spelling", BAD_CHUNKS, ids=str)
def test_a_body_that_is_not_exactly_chunked_is_refused_and_never_whole(lane: Lane, spelling: str) -> None:
    (backend,) = lane.serve()
    with Caller(lane.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + BAD_CHUNKS[spelling] + GOOD)
        assert caller.reply().status == 400
        caller.rest()
    wait_for(lambda: backend.open == 0)
    assert all(b"0\r\n\r\n" not in visit.raw for visit in backend.visits)
    assert not any(b"/good" in head for head in backend.heads)


ONE_MESSAGE = {
    "tabs and spaces around a value": (b"GET / HTTP/1.1\r\nHost:\t a \t\r\nX:   y  \r\n\r\n", b"X: y\r\n"),
    "bytes above 127 in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa4\r\n\r\n", b"X: \xc3\xa4\r\n"),
    "an empty value": (b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", b"X: \r\n"),
    "an absolute target": (b"GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /x?y HTTP/1.1\r\nHost: a\r\n"),
    "an absolute target without a path": (
        b"GET http://A HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
    ),
    "an empty line before": (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\n"),
    "length nought": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", b"Content-Length: 0\r\n"),
    "leading noughts": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 001\r\n\r\nx", b"Content-Length: 1\r\n"),
    "CHUNKED": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n",
    ),
    "an upgrade to h2c": (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For:",
    ),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n"),
}


@pytest.mark.parametrize("spelling", ONE_MESSAGE, ids=str)
def test_an_unusual_request_is_forwarded_as_exactly_one_message(lane: Lane, spelling: str) -> None:
    (backend,) = lane.serve()
    raw, expected = ONE_MESSAGE[spelling]
    with Caller(lane.port) as caller:
        caller.send(raw + GOOD)
        assert caller.reply().status == 200
        assert caller.reply().status == 200
    assert len(backend.heads) == 2
    assert expected in backend.heads[0]
    assert backend.heads[1].startswith(b"GET /good ")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_where_the_bytes_are_cut_makes_no_difference(lane: Lane, size: int) -> None:
    (backend,) = lane.serve()
    raw = (
        b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;e=1\r\nabc\r\n1\r\nd\r\n0\r\nT: x\r\n\r\n"
        + GOOD
    )
    with Caller(lane.port) as caller:
        for at in range(0, len(raw), size):
            caller.send(raw[at : at + size])
        assert [caller.reply().status for _ in range(2)] == [200, 200]
    assert [head.split(b" ")[1] for head in backend.heads] == [b"/p", b"/good"]


def test_a_body_of_a_get_belongs_to_it(lane: Lane) -> None:
    (backend,) = lane.serve()
    with Caller(lane.port) as caller:
        smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        assert caller.get("/", body=smuggled).status == 200
        assert caller.get("/good").status == 200
    assert len(backend.heads) == 2
