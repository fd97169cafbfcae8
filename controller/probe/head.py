"""The start of an HTTP/1 answer, read strictly and without trust; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_BYTES = 32 * 1024
"""A longer head is not taken for HTTP."""

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\r\n]*))?\r?\n")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n]*)\r?\n")
_END = re.compile(rb"\r?\n")


class NotHttpError(Exception):
    """What came is not the start of an HTTP answer."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a probe needs to know of an answer."""

    status: int
    reason: str
    length: int | None
    """Bytes of body; None: chunked, or up to the end of the connection."""
    chunked: bool
    keep: bool
    """The connection may carry another request once the body is read."""
    location: str
    size: int
    """Bytes that the head takes, interim answers before it included."""


def read_head(data: bytes) -> Head | None:
    """Return the final answer's head, or None while more has to come; raises NotHttpError."""
    at = 0
    while True:
        head = _read_one(data, at)
        if head is None or head.status >= 200 or head.status == 101:
            return head
        at = head.size


def _read_one(data: bytes, at: int) -> Head | None:
    start = data[at : at + 7]
    if not b"HTTP/1.".startswith(start):
        raise NotHttpError
    match = _STATUS.match(data, at)
    if match is None:
        _check_unfinished(data, at, b"\n" in data[at:])
        return None
    end, headers = match.end(), []
    while (last := _END.match(data, end)) is None:
        header = _HEADER.match(data, end)
        if header is None:
            _check_unfinished(data, at, b"\n" in data[end:])
            return None
        headers.append((header[1].lower(), header[2].strip()))
        end = header.end()
    return _judge(match, headers, last.end())


def _check_unfinished(data: bytes, at: int, is_line_whole: bool) -> None:
    """A whole line that does not parse, or a head without end, is not HTTP."""
    if is_line_whole or len(data) - at > HEAD_BYTES:
        raise NotHttpError


def _judge(match: re.Match[bytes], headers: list[tuple[bytes, bytes]], size: int) -> Head:
    values: dict[bytes, bytes] = {}
    for name, value in headers:
        values[name] = values[name] + b"," + value if name in values else value
    status, chunked = int(match[2]), values.get(b"transfer-encoding", b"").lower().endswith(b"chunked")
    length = _length(values.get(b"content-length"))
    if status in (204, 304):
        chunked, length = False, 0
    told = {word.strip() for word in values.get(b"connection", b"").lower().split(b",")}
    lasting = b"close" not in told if match[1] == b"1" else b"keep-alive" in told
    doubtful = b"content-length" in values and (length is None or chunked)
    return Head(
        status=status,
        reason=(match[3] or b"").decode("latin-1").strip()[:60],
        length=None if chunked else length,
        chunked=chunked,
        keep=lasting and not doubtful and (chunked or length is not None) and status != 101,
        location=values.get(b"location", b"").decode("latin-1")[:200],
        size=size,
    )


def _length(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) < 16 else None


def plain_body(data: bytes, chunked: bool) -> bytes:
    """Return what has come of the body, without chunk sizes."""
    if not chunked:
        return data
    out = b""
    while True:
        line, found, rest = data.partition(b"\r\n")
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError:
            return out
        if not found or size <= 0:
            return out
        out += rest[:size]
        data = rest[size + 2 :]


def is_body_whole(data: bytes, head: Head) -> bool:
    """Say whether the body has come to its end, as far as that can be seen before the connection ends."""
    if head.chunked:
        return data == b"0\r\n\r\n" or data.endswith(b"\r\n0\r\n\r\n")
    return head.length is not None and len(data) >= head.length
