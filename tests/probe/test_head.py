"""The start of an HTTP answer, read strictly."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.probe.head import NotHttpError, is_body_whole, plain_body, read_head


def test_a_plain_answer():
    head = read_head(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert head is not None
    assert (head.status, head.reason, head.length, head.keep, head.size) == (200, "OK", 5, True, 38)


def test_interim_answers_are_skipped():
    data = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    head = read_head(data)
    assert head is not None
    assert (head.status, head.length, head.size) == (204, 0, len(data))


@pytest.mark.parametrize(
    ("data", "keeps"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", False),
        (b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n", False),
    ],
)
def test_a_connection_is_kept_only_where_the_end_of_the_answer_is_certain(data, keeps):
    head = read_head(data)
    assert head is not None
    assert head.keep is keeps


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"HTTP/2 200\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 OK\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 8000,
        b"HTTP/1.1 200 " + b"o" * 40_000,
    ],
)
def test_what_is_not_http_is_said_to_be_so(data):
    with pytest.raises(NotHttpError):
        read_head(data)


def test_an_answer_in_pieces_is_waited_for():
    whole = b"HTTP/1.1 503 Service Unavailable\r\nServer: x\r\nContent-Length: 0\r\n\r\n"
    for cut in range(len(whole)):
        assert read_head(whole[:cut]) is None
    assert read_head(whole) is not None


def test_chunks_are_put_together_and_their_end_is_seen():
    head = read_head(b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert head is not None
    body = b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"
    assert plain_body(body, chunked=True) == b"abcdefg"
    assert plain_body(body[:12], chunked=True) == b"abc"
    assert is_body_whole(body, head)
    assert not is_body_whole(body[:-2], head)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_stumble(data):
    for prefix in (b"", b"HTTP/1.1 200 OK\r\n"):
        with suppress(NotHttpError):
            read_head(prefix + data)
    plain_body(data, chunked=True)
