"""Random bytes at the lane: nothing crashes, and what was counted is what was forwarded, message for message."""

import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from controller.proxy.chunks import ChunkReader, Everything, Piece
from controller.proxy.framing import BadMessage
from controller.proxy.heads import HeadReader
from controller.proxy.limits import Limits
from controller.proxy.replies import AnswerReader
from controller.routing.match import BadTarget
from tests.parts.effort import examples
from tests.proxy.rig import Backend, Caller, Lane, Visit, a_lane, an_app, answer, wait_for

pytestmark = [pytest.mark.fuzz, pytest.mark.slow, pytest.mark.timeout(1200)]

PATIENT = Limits(header_s=10, keepalive_s=10, pace_window_s=10, linger_s=10, half_closed_s=10)
"""Each client ends its side at once, so that no deadline has to pass; on a busy machine a short one cuts it off."""

PIECES = (
    b"QUERY /q HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n", b"OPTIONS http://a HTTP/1.1\r\n", b"GET http://a/ HTTP/1.0\r\n", b"TRACE / HTTP/1.1\r\n",
    b"Host:\r\n", b"Max-Forwards: 0\r\n", b"Max-Forwards: 1\r\n", b"Transfer_Encoding: chunked\r\n", b"Connection: keep-alive\r\n",
    b"GET / HTTP/1.1\r\n", b"POST /a HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n", b"PUT http://a/ HTTP/1.1\r\n", b"GET /%2e%2e/ HTTP/1.1\r\n",
    b"Host: a\r\n", b"Host: b\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\tchunked \r\n", b"Connection: close\r\n", b"Connection: Upgrade\r\n", b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n",
    b"X: y\r\n", b" folded\r\n", b"\r\n", b"\n", b"\r", b"\0", b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nT: x\r\n\r\n", b"1;x=y\r\nz\r\n",
)  # fmt: skip
WHOLE = (
    b"GET /w HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /w HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /w HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"QUERY http://a/w HTTP/1.1\r\nHost:\r\nContent-Length: 5\r\n\r\nhello",
    b"GET /w HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
)
soup = st.lists(st.sampled_from(PIECES + WHOLE) | st.binary(max_size=6), min_size=1, max_size=12).map(b"".join)


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """Whole requests with a few bytes changed, put in or taken out."""
    raw = bytearray(b"".join(draw(st.lists(st.sampled_from(WHOLE), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw) - 1))
        how = draw(st.sampled_from(("change", "insert", "drop")))
        byte = draw(st.sampled_from(b" \t\r\n\0:;,+-_0159azAZ/\x7f\x80\xff"))
        if how == "change":
            raw[at] = byte
        elif how == "insert":
            raw.insert(at, byte)
        else:
            del raw[at]
    return bytes(raw)


fuzz = settings(
    max_examples=examples(2_000),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)


@pytest.fixture(scope="module")
def house() -> Iterator[tuple[Lane, Backend]]:
    async def counts(visit: Visit) -> None:
        """Read messages by a parser of our own, and answer each."""
        while head := await visit.head():
            fields = dict(re.findall(rb"(?im)^([a-z-]+): ?(.*)\r\n", head.lower()))
            if b"transfer-encoding" in fields:
                while size := int((await visit.until(b"\r\n")).split(b";")[0], 16):
                    await visit.exactly(size + 2)
                await visit.until(b"\r\n")
            else:
                await visit.exactly(int(fields.get(b"content-length", b"0")))
            await visit.say(answer(b"" if head.startswith(b"HEAD") else b"ok", "200 OK", "X-Whole: yes"))

    with a_lane(PATIENT) as lane:
        backend = lane.backend(counts)
        lane.take(an_app(backend))
        yield lane, backend


@fuzz
@given(raw=soup | bent())
def test_what_is_counted_is_what_was_forwarded(house: tuple[Lane, Backend], raw: bytes) -> None:
    lane, backend = house
    lane.log.clear()
    backend.heads.clear()
    with Caller(lane.port) as caller:
        caller.send(raw)
        caller.sock.shutdown(1)
        got = caller.rest()
    wait_for(lambda: not lane.core.clients)
    whole = sum(entry["status"] == 200 for entry in lane.log)
    assert got.count(b"X-Whole: yes") == whole
    assert whole <= len(backend.heads)
    assert len(backend.heads) <= sum("upstream" in entry for entry in lane.log)
    assert not lane.problems


@fuzz
@given(raw=soup | bent(), cuts=st.lists(st.integers(0, 200), max_size=4))
def test_heads_are_read_alike_however_they_arrive(raw: bytes, cuts: list[int]) -> None:
    def read(pieces: list[bytes]) -> object:
        reader, seen = HeadReader(Limits()), b""
        for piece in pieces:
            seen += piece
            try:
                head = reader.read(seen)
            except (BadMessage, BadTarget):
                return "refused"
            if head is not None:
                return head[:3], head[4]
        return None

    ends = sorted({*cuts, len(raw)})
    pieces = [raw[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    whole = read([raw])
    if whole is not None and whole != "refused":
        assert read(pieces) == whole
    again = HeadReader(Limits())
    for _ in range(2):  # the second time from memory
        try:
            assert (found := again.read(raw)) is None or (found[:3], found[4]) == whole
        except (BadMessage, BadTarget):
            assert whole == "refused"


@fuzz
@given(
    raw=st.lists(st.sampled_from(PIECES[-8:]) | st.binary(max_size=4), max_size=10).map(b"".join),
    size=st.integers(1, 7),
)
def test_chunks_are_read_alike_however_they_arrive(raw: bytes, size: int) -> None:
    def read(pieces: list[bytes]) -> object:
        reader, payload, seen = ChunkReader(), b"", 0
        try:
            for piece in pieces:
                payload += reader.feed(piece, Everything())
                seen += len(piece)
                if reader.done:
                    return payload, raw[seen - len(reader.rest) :]
        except BadMessage:
            return "refused"
        return payload

    whole = read([raw])
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    assert read(pieces) == whole or "refused" in (whole, read(pieces))
    if isinstance(whole, tuple):
        assert read(pieces) == whole


class Small:
    """A piece of work that is soon over."""

    def __init__(self, left: int) -> None:
        self.left: float = left


@fuzz
@given(
    raw=st.lists(st.sampled_from(PIECES[-8:]) | st.binary(max_size=4), max_size=10).map(b"".join),
    left=st.integers(1, 3),
)
def test_chunks_are_read_alike_in_pieces_however_small(raw: bytes, left: int) -> None:
    def read(piece: Callable[[], Piece]) -> object:
        reader, payload, rest = ChunkReader(), b"", raw
        try:
            while not reader.done:
                payload += reader.feed(rest, piece())
                rest = reader.rest
                if not rest:
                    break
        except BadMessage:
            return "refused"
        return payload, reader.done, reader.rest

    assert read(lambda: Small(left)) == read(Everything)


@fuzz
@given(
    lines=st.lists(
        st.sampled_from(
            (b"Content-Length: 2", b"Connection: close, x", b"X: y", b"Transfer-Encoding: chunked", b"A:b ")
        )
        | st.binary(max_size=8),
        max_size=6,
    )
)
def test_answers_are_read_alike_the_second_time(lines: list[bytes]) -> None:
    reader = AnswerReader(200)
    raw = b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    seen: list[object] = []
    for _ in range(2):
        try:
            found = reader.read(raw)
            seen.append((found.status, found.length, found.chunked, found.close, tuple(found.lines)))
        except BadMessage:
            seen.append(None)
    assert seen[0] == seen[1]
