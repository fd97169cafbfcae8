"""
What a request's head says, read so strictly that no other parser can read it differently.

A request's head is framed here, checked here byte by byte, and split by llhttp, so two readers have to agree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import httptools

from controller.routing.access import UPSTREAM, plain_name
from controller.routing.match import BadTarget, normalise_host

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_FIELDS = rb"((?:" + TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n"
_METHOD = rb"[A-Z][A-Z0-9_-]{0,31}+"
_REQUEST_LINE = re.compile(rb"(" + _METHOD + rb") ([\x21-\x7e]++) HTTP/1\.([01])")
_LONG_LINE = re.compile(_METHOD + rb" [\x21-\x7e]++")
FIELD_BLOCK = re.compile(_FIELDS)
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
LENGTH = re.compile(rb"[0-9]{1,18}")

_KNOWN = frozenset(
    b"GET HEAD POST PUT DELETE OPTIONS PATCH TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND"
    b" UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE MKCALENDAR LINK UNLINK".split()
)
"""What llhttp knows; other methods pass too, but for CONNECT, under a name that it knows."""

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding"
    b" upgrade http2-settings".split()
)


class BadMessage(Exception):
    """The message breaks a rule; *status* is the answer to a request, *why* is for the log."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.why = why
        self.status = status


@dataclass(slots=True)
class Fields:
    """What a request's header block says; made once and never changed, since it may be shared."""

    pairs: tuple[tuple[bytes, bytes, bytes], ...]
    """(name in lower case, name, value) in the order of arrival, hop-by-hop ones left out."""
    block: bytes = b""
    """The lines that go on unless an app edits them."""
    host: bytes = b""
    name: str = ""
    """The host as it is compared."""
    length: int | None = None
    chunked: bool = False
    expect: bool = False
    close: bool = False
    keep_alive: bool = False
    websocket: bool = False
    html: bool = False
    request_id: bytes = b""
    cookie: bytes = b""
    """All of them, in one line."""
    authorization: bytes = b""
    has_body: bool = False
    forwarded_for: bytes = b""
    forwarded: tuple[bytes, ...] = ()
    """Lines that only a trusted proxy may have sent."""
    version: int = 1
    """The HTTP/1 minor version under which the block was read."""
    last: bool = False
    """The client wants the connection closed after this request."""
    hops: bytes | None = None
    """How often OPTIONS or TRACE may still be forwarded."""
    ends_here: bool = False
    """It may be forwarded no more."""


class _Splitter:
    """Takes header pairs from llhttp."""

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name, value))


def parse_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Return method, target and HTTP/1 minor version of a request line without its line end."""
    found = _REQUEST_LINE.fullmatch(line)
    if found is None or found[1] == b"CONNECT" or b"#" in found[2]:
        raise BadMessage("request line")
    return found[1], found[2], 1 if found[3] == b"1" else 0


def parse_fields(line: bytes, block: bytes, limit: int) -> Fields:
    """Read a header block that ends with its empty line; *line* is the request line before it."""
    if FIELD_BLOCK.fullmatch(block) is None:
        raise BadMessage("header line")
    splitter = _Splitter()
    try:
        httptools.HttpRequestParser(splitter).feed_data(_in_known_words(line) + b"\r\n" + block)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise BadMessage(f"llhttp: {error}") from error
    if len(splitter.pairs) > limit:
        raise BadMessage("too many headers", 431)
    if len(splitter.pairs) != block.count(b"\r\n") - 1:
        raise BadMessage("header lines disagree")
    pairs = [(name.lower(), name, value.strip(b" \t")) for name, value in splitter.pairs]
    return _gather(pairs, 0 if line.endswith(b"0") else 1)


def _in_known_words(line: bytes) -> bytes:
    method, space, rest = line.partition(b" ")
    return line if method in _KNOWN else b"POST" + space + rest


def _gather(pairs: list[tuple[bytes, bytes, bytes]], version: int) -> Fields:
    named = _connection_names(pairs)
    fields = Fields(
        pairs=tuple(p for p in pairs if p[0] not in HOP_BY_HOP and (p[0] not in named or p[0] in _KEPT)),
        version=version,
    )
    seen: dict[bytes, bytes] = {}
    for low, _, value in pairs:
        if low in seen and low in _SINGLE:
            raise BadMessage(f"repeated {low.decode()}")
        seen[low] = seen[low] + b", " + value if low in seen else value
    _frame(fields, seen, version)
    fields.close = b"close" in named
    fields.keep_alive = b"keep-alive" in named
    fields.last = fields.close or (version == 0 and not fields.keep_alive)
    fields.websocket = _wants_websocket(seen, named, version)
    fields.html = b"text/html" in seen.get(b"accept", b"")
    wished = seen.get(b"x-request-id", b"")
    fields.request_id = wished if _REQUEST_ID.fullmatch(wished) else b""
    fields.cookie = b"; ".join(value for low, _, value in pairs if low == b"cookie")
    fields.authorization = seen.get(b"authorization", b"")
    fields.hops = seen.get(b"max-forwards")
    fields.forwarded_for = seen.get(b"x-forwarded-for", b"")
    passed: list[bytes] = []
    trusted: list[bytes] = []
    for low, name, value in fields.pairs:
        if low in _FORWARDED or low.startswith(b"x-forwarded-"):
            trusted.append(name + b": " + value)
        elif low not in _OURS and not _is_twin(low):
            passed.append(name + b": " + value + b"\r\n")
    fields.block = b"".join(passed)
    fields.forwarded = tuple(trusted)
    return fields


_SINGLE = frozenset((b"host", b"content-length", b"transfer-encoding", b"authorization"))
_KEPT = frozenset(
    b"host content-length content-type authorization cookie x-request-id max-forwards sec-websocket-key".split()
)
"""Headers that a client cannot take away by naming them in Connection."""
_FORWARDED = frozenset((b"forwarded", b"x-real-ip"))
_OURS = frozenset((b"content-length", b"x-request-id", b"expect", b"host", UPSTREAM))
_TOLD = _FORWARDED | _OURS | HOP_BY_HOP


def _is_twin(name: bytes) -> bool:
    """Say whether a replica may read *name* as one that only we tell it: CGI and its heirs know no hyphens."""
    plain = plain_name(name)
    return plain != name and (plain in _TOLD or plain.startswith(b"x-forwarded-"))


def _connection_names(pairs: list[tuple[bytes, bytes, bytes]]) -> frozenset[bytes]:
    names: set[bytes] = set()
    for low, _, value in pairs:
        if low == b"connection":
            names.update(part.strip(b" \t") for part in value.lower().split(b","))
    return frozenset(names)


def read_host(raw: bytes) -> str:
    """Return a Host value as it is compared; an empty one is allowed and names no host."""
    try:
        return normalise_host(raw.decode("ascii")) if raw else ""
    except (BadTarget, UnicodeDecodeError) as error:
        raise BadMessage("Host") from error


def _frame(fields: Fields, seen: dict[bytes, bytes], version: int) -> None:
    if b"host" in seen:
        fields.host = seen[b"host"]
        fields.name = read_host(fields.host)
    elif version == 1:
        raise BadMessage("no Host")
    coding = seen.get(b"transfer-encoding")
    length = seen.get(b"content-length")
    if coding is not None:
        if coding.lower() != b"chunked" or length is not None or version == 0:
            raise BadMessage("Transfer-Encoding")
        fields.chunked = True
    elif length is not None:
        if LENGTH.fullmatch(length) is None:
            raise BadMessage("Content-Length")
        fields.length = int(length)
    fields.has_body = fields.chunked or bool(fields.length)
    expect = seen.get(b"expect")
    if expect is not None and version == 1:
        if expect.lower() != b"100-continue":
            raise BadMessage("Expect", 417)
        fields.expect = fields.has_body


def _wants_websocket(seen: dict[bytes, bytes], named: frozenset[bytes], version: int) -> bool:
    return (
        version == 1
        and b"upgrade" in named
        and seen.get(b"upgrade", b"").lower() == b"websocket"
        and seen.get(b"sec-websocket-version") == b"13"
        and b"," not in seen.get(b"sec-websocket-key", b",")
        and b"content-length" not in seen
        and b"transfer-encoding" not in seen
    )


def skip_empty_lines(data: bytes) -> bytes:
    """Return what follows the empty lines before a request; old clients leave them behind a body."""
    found = _EMPTY_LINES.match(data)
    return data[found.end() :] if found is not None else data


def refuse_bare_ends(data: bytes) -> None:
    """Raise BadMessage where an unfinished head already shows a bare CR or LF or a NUL."""
    lines = data.count(b"\r\n")
    returns = data.count(b"\r") - (1 if data.endswith(b"\r") else 0)
    if data.count(b"\n") != lines or returns != lines or b"\0" in data:
        raise BadMessage("bare CR, LF or NUL")


def refuse_long(data: bytes, most: int) -> BadMessage:
    """Return why a head that is longer than *most* bytes is refused, the same however it came."""
    data = data[: most + 1]
    refuse_bare_ends(data)
    if b"\r\n" in data[:-1]:
        return BadMessage("head too large", 431)
    return BadMessage("target too long", 414) if _LONG_LINE.fullmatch(data) else BadMessage("request line")
