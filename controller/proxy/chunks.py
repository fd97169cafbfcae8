"""Chunked bodies, read with offsets so that what follows a body never becomes part of it."""

from __future__ import annotations

import math
import re
from typing import Protocol

from controller.proxy.framing import FIELD_BLOCK, BadMessage

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_LINE_LIMIT = 1024
_TRAILER_LIMIT = 16 * 1024
_AT_SIZE, _IN_TRAILERS, _AT_END = -1, -2, -3


def render_chunk(data: bytes, last: bool) -> bytes:
    """Return *data* as one chunk (nothing for no data), with the end of the body after it if *last*."""
    if not data:
        return b"0\r\n\r\n" if last else b""
    return b"%x\r\n%b\r\n%b" % (len(data), data, b"0\r\n\r\n" if last else b"")


class Piece(Protocol):
    """How much may be worked off at once."""

    left: float


class Everything:
    """No bound, for who has nobody to keep waiting."""

    left = math.inf


class ChunkReader:
    """Reads a chunked body; `feed` returns the payload so far, `done` and `rest` say where it ended or has to wait."""

    __slots__ = ("_left", "_line", "_trailers", "done", "rest")

    def __init__(self) -> None:
        self._left = _AT_SIZE
        """Payload bytes left in this chunk, or where between chunks the reader is."""
        self._line = b""
        self._trailers = 0
        self.done = False
        self.rest = b""
        """What follows the body; before its end, what has to wait for the next piece."""

    def feed(self, data: bytes, piece: Piece) -> bytes:
        """Return the payload in *data*, as far as *piece* lasts; raises BadMessage where it is not exactly chunked."""
        self.rest = b""
        if self._line:
            data = self._line + data
            self._line = b""
        pieces: list[bytes] = []
        at = 0
        size = len(data)
        while at < size:
            if self._left > 0:
                payload = data[at : at + self._left]
                pieces.append(payload)
                at += len(payload)
                self._left -= len(payload)
                if self._left == 0:
                    self._left = _AT_END
                continue
            if piece.left <= 0:
                self.rest = data[at:]
                break
            piece.left -= 1
            at = self._read_line(data, at)
            if self.done or at < 0:
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_line(self, data: bytes, at: int) -> int:
        """Read the line at *at*; return where the next begins, or -1 where it is not complete yet."""
        end = data.find(b"\n", at)
        if end < 0:
            self._line = data[at:]
            bad_end = self._left == _AT_END and self._line != b"\r"
            if bad_end or len(self._line) > _LINE_LIMIT or b"\r" in self._line[:-1]:
                raise BadMessage("chunk line")
            return -1
        if end == at or data[end - 1] != 13:
            raise BadMessage("bare LF in a chunk line")
        line = data[at : end - 1]
        if self._left == _AT_END:
            if line:
                raise BadMessage("chunk longer than its size")
            self._left = _AT_SIZE
        elif self._left == _AT_SIZE:
            self._take_size(line)
        else:
            self._take_trailer(line, data, end + 1)
        return end + 1

    def _take_size(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line) if len(line) <= _LINE_LIMIT else None
        if found is None:
            raise BadMessage("chunk size")
        size = int(found[1], 16)
        self._left = size or _IN_TRAILERS

    def _take_trailer(self, line: bytes, data: bytes, after: int) -> None:
        if not line:
            self.done = True
            self.rest = data[after:]
            return
        self._trailers += len(line)
        if self._trailers > _TRAILER_LIMIT or FIELD_BLOCK.fullmatch(line + b"\r\n\r\n") is None:
            raise BadMessage("trailer")
