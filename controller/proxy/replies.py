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
_SPECIAL = HOP_BY_HOP | {b"content-length", b"content-type"}
_KEPT_LINES = 4096
_KEPT_LINE_BYTES = 128

Special = tuple[bytes, bytes]
"""A header that means something to the lane: name in lower case, value."""


class Answer:
    """The head of a replica's answer."""

    __slots__ = ("chunked", "close", "content_type", "drop", "length", "lines", "status", "upgrade", "version", "words")

    def __init__(self, status: int, version: int, words: bytes) -> None:
        self.status = status
        self.version = version
        self.words = words
        """Status and reason, as they came."""
        self.lines: list[bytes] = []
        """Header lines that go on: hop-by-hop ones and Content-Length are left out."""
        self.length: int | None = None
        self.chunked = False
        self.close = version == 0
        self.upgrade = b""
        self.drop: frozenset[bytes] = frozenset()
        """What Connection names beside the usual."""
        self.content_type = b""


class AnswerReader:
    """Reads answer heads and remembers lines, within a bound."""

    __slots__ = ("_count", "_lines", "_starts")

    def __init__(self, count: int) -> None:
        self._count = count
        self._starts: dict[bytes, tuple[int, int]] = {}
        self._lines: dict[bytes, Special | None] = {}

    def read(self, head: bytes) -> Answer:
        """Read a head with its empty line; raises BadMessage where any rule is broken."""
        lines = head.split(b"\r\n")
        start = lines[0]
        status, version = self._starts.get(start) or self._read_start(start)
        answer = Answer(status, version, start[9:])
        kept = answer.lines
        known = self._lines
        if len(lines) - 3 > self._count:
            raise BadMessage("too many headers")
        for line in lines[1:-2]:
            try:
                special = known[line]
            except KeyError:
                special = self._read_line(line)
            if special is None:
                kept.append(line)
            else:
                _take(answer, special, line)
        if answer.drop:
            answer.lines = [line for line in kept if line.partition(b":")[0].lower() not in answer.drop]
        if answer.chunked and answer.length is not None:
            raise BadMessage("both lengths")
        return answer

    def _read_start(self, line: bytes) -> tuple[int, int]:
        found = _STATUS.fullmatch(line)
        if found is None:
            raise BadMessage("status line")
        start = int(found[2]), 1 if found[1] == b"1" else 0
        if len(self._starts) < _KEPT_LINES and len(line) <= _KEPT_LINE_BYTES:
            self._starts[line] = start
        return start

    def _read_line(self, line: bytes) -> Special | None:
        found = _LINE.fullmatch(line)
        if found is None:
            raise BadMessage("header line")
        name = found[1].lower()
        special = (name, found[2].rstrip(b" \t")) if name in _SPECIAL else None
        if len(line) <= _KEPT_LINE_BYTES:
            if len(self._lines) >= _KEPT_LINES:
                self._lines.clear()
            self._lines[line] = special
        return special


def _take(answer: Answer, special: Special, line: bytes) -> None:
    name, value = special
    if name == b"connection":
        _take_connection(answer, value)
    elif name == b"content-length":
        if answer.length is not None or LENGTH.fullmatch(value) is None:
            raise BadMessage("Content-Length")
        answer.length = int(value)
    elif name == b"content-type":
        answer.content_type = value
        answer.lines.append(line)
    elif name == b"transfer-encoding":
        if answer.chunked or value.lower() != b"chunked" or answer.version == 0:
            raise BadMessage("Transfer-Encoding")
        answer.chunked = True
    elif name == b"upgrade":
        answer.upgrade = value.lower()


def _take_connection(answer: Answer, value: bytes) -> None:
    if value == b"keep-alive":
        return
    names = frozenset(part.strip(b" \t") for part in value.lower().split(b","))
    answer.close = answer.close or b"close" in names
    answer.drop |= names - _KEPT


_KEPT = frozenset((b"close", b"keep-alive", b"upgrade", b"content-type", b"set-cookie"))
"""Headers that Connection cannot take away."""
