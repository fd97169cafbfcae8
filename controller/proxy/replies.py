"""
The head of a replica's answer, read by the same strict rules as a request's.

Most header lines that a replica sends were sent before, so what a line says is remembered; a line that is new
is checked byte by byte first.
"""

from __future__ import annotations

import re

from controller.proxy.framing import HOP_BY_HOP, LENGTH, TOKEN, BadMessage

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*+)?")
_LINE = re.compile(rb"(" + TOKEN + rb"):[ \t]*([\t\x20-\x7e\x80-\xff]*+)")
_KEPT_LINES = 4096
_KEPT_LINE_BYTES = 128

_PASS, _SKIP, _LENGTH, _CHUNKED, _CLOSE, _NAMES, _UPGRADE, _EVENTS, _DATE = range(9)
"""What a header line means to the lane: it goes on, it ends here, or it says something beside."""

Meaning = tuple[int, int | bytes]


class Answer:
    """The head of a replica's answer."""

    __slots__ = (
        "chunked",
        "close",
        "dated",
        "drop",
        "events",
        "length",
        "lines",
        "status",
        "upgrade",
        "version",
        "words",
    )

    def __init__(self, status: int, version: int, words: bytes) -> None:
        self.status = status
        self.version = version
        self.words = words
        """Status and reason, as they came."""
        self.lines: list[bytes] = []
        """Header lines that go on; hop-by-hop ones are left out."""
        self.length: int | None = None
        self.chunked = False
        self.close = version == 0
        self.upgrade = b""
        self.drop: frozenset[bytes] = frozenset()
        """What Connection names beside the usual."""
        self.dated = False
        """It says when it was made."""
        self.events = False
        """It is an event stream."""


class AnswerReader:
    """Reads answer heads and remembers lines, within a bound."""

    __slots__ = ("_count", "_meanings", "_starts")

    def __init__(self, count: int) -> None:
        self._count = count
        self._starts: dict[bytes, tuple[int, int, bytes]] = {}
        self._meanings: dict[bytes, Meaning | None] = {}
        """None for a line that just goes on, as most do."""

    def read(self, head: bytes) -> Answer:
        """Read a head with its empty line; raises BadMessage where any rule is broken."""
        lines = head.split(b"\r\n")
        start = lines[0]
        status, version, words = self._starts.get(start) or self._read_start(start)
        answer = Answer(status, version, words)
        del lines[0], lines[-2:]
        if len(lines) > self._count:
            raise BadMessage("too many headers")
        kept, known = answer.lines, self._meanings
        for line in lines:
            try:
                meaning = known[line]
            except KeyError:
                meaning = self._read_line(line)
            if meaning is None:
                kept.append(line)
            elif meaning[0] != _SKIP:
                _take(answer, meaning, line)
        if answer.drop:
            answer.lines = [line for line in kept if line.partition(b":")[0].lower() not in answer.drop]
        if answer.chunked and answer.length is not None:
            raise BadMessage("both lengths")
        return answer

    def _read_start(self, line: bytes) -> tuple[int, int, bytes]:
        found = _STATUS.fullmatch(line)
        if found is None:
            raise BadMessage("status line")
        start = int(found[2]), 1 if found[1] == b"1" else 0, line[9:]
        if len(self._starts) < _KEPT_LINES and len(line) <= _KEPT_LINE_BYTES:
            self._starts[line] = start
        return start

    def _read_line(self, line: bytes) -> Meaning | None:
        found = _LINE.fullmatch(line)
        if found is None:
            raise BadMessage("header line")
        meaning = _understand(found[1].lower(), found[2].rstrip(b" \t"))
        if len(line) <= _KEPT_LINE_BYTES:
            if len(self._meanings) >= _KEPT_LINES:
                self._meanings.clear()
            self._meanings[line] = meaning
        return meaning


def _understand(name: bytes, value: bytes) -> Meaning | None:
    if name == b"content-length":
        if LENGTH.fullmatch(value) is None:
            raise BadMessage("Content-Length")
        return _LENGTH, int(value)
    if name == b"content-type":
        return (_EVENTS, b"") if value.lower().startswith(b"text/event-stream") else None
    if name == b"transfer-encoding":
        if value.lower() != b"chunked":
            raise BadMessage("Transfer-Encoding")
        return _CHUNKED, b""
    if name == b"connection":
        value = value.lower()
        return (_SKIP, b"") if value == b"keep-alive" else (_CLOSE, b"") if value == b"close" else (_NAMES, value)
    if name == b"date":
        return _DATE, b""
    if name == b"upgrade":
        return _UPGRADE, value.lower()
    return (_SKIP, b"") if name in HOP_BY_HOP else None


def _take(answer: Answer, meaning: Meaning, line: bytes) -> None:
    kind, value = meaning
    if kind == _LENGTH and isinstance(value, int):
        if answer.length is not None:
            raise BadMessage("two lengths")
        answer.length = value
        answer.lines.append(line)
    elif kind == _CHUNKED:
        if answer.chunked or answer.version == 0:
            raise BadMessage("Transfer-Encoding")
        answer.chunked = True
    elif kind == _CLOSE:
        answer.close = True
    elif kind == _DATE:
        answer.dated = True
        answer.lines.append(line)
    elif kind == _EVENTS:
        answer.events = True
        answer.lines.append(line)
    elif isinstance(value, bytes):
        if kind == _UPGRADE:
            answer.upgrade = value
        else:
            names = frozenset(part.strip(b" \t") for part in value.split(b","))
            answer.close = answer.close or b"close" in names
            answer.drop |= names - _KEPT


_KEPT = frozenset((b"close", b"keep-alive", b"upgrade", b"content-type", b"content-length", b"set-cookie"))
"""Headers that Connection cannot take away."""
