"""
What a replica says, made into what mitmproxy's layers can be told: nothing that they hang on, swell on or misread.

Answers go through the lane's own readers: interim answers and trailers end here, hop-by-hop headers too, and a body
without a length becomes chunks, so that one which breaks off can be told from one that ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from controller.proxy.chunks import ChunkReader, Everything, render_chunk
from controller.proxy.detour import TROUBLE
from controller.proxy.framing import BadMessage
from controller.proxy.replies import Answer, AnswerReader

_BODYLESS = frozenset((204, 304))
_HEAD, _LENGTH, _CHUNKED, _CLOSE, _TUNNEL, _DONE = range(6)

MESSAGE_BYTES = 1024 * 1024
"""Longest WebSocket message, with the frames' headers; beyond it the connection is closed with 1009."""

MESSAGE_FRAMES = 1024
"""Most frames of one WebSocket message."""


class Source(Protocol):
    """What bytes are read from."""

    async def read(self, count: int, /) -> bytes: ...


class AnswerStrainer:
    """One answer of a replica as mitmproxy may read it; the connection's end follows it, so that it is never reused."""

    def __init__(self, source: Source, was_reset: Callable[[], bool], reader: AnswerReader, header_bytes: int) -> None:
        self._source = source
        self._was_reset = was_reset
        self._reader = reader
        self._header_bytes = header_bytes
        self._state = _HEAD
        self._held = b""
        self._left = 0
        self._chunks = ChunkReader()
        self._frames = FrameStrainer(masked=False)
        self.head_only = False
        """The request was HEAD."""
        self.on_upgrade: Callable[[], None] = lambda: None
        """Called when it switches to WebSocket, before mitmproxy is told."""

    def note_request(self, data: bytes) -> None:
        """Take the first bytes of what mitmproxy sends."""
        self.head_only = data.startswith(b"HEAD ")

    async def read(self, count: int) -> bytes:
        """Return the next bytes, b"" at the end; raises OSError where no more can be believed."""
        while self._state != _DONE:
            data = await self._source.read(count)
            if not data and self._was_reset():
                raise ConnectionResetError
            try:
                out = self._strain(data) if data else self._end()
            except BadMessage as bad:
                raise OSError(bad.why) from bad
            if out:
                return out
        return b""

    def _end(self) -> bytes:
        state, self._state = self._state, _DONE
        if state == _CLOSE:
            return render_chunk(b"", True)
        return b""

    def _strain(self, data: bytes) -> bytes:
        if self._state == _HEAD:
            return self._read_head(data)
        if self._state == _LENGTH:
            return self._count_down(data)
        if self._state == _CHUNKED:
            return self._read_chunks(data)
        if self._state == _TUNNEL:
            return self._frames.feed(data)
        return render_chunk(data, False)

    def _read_head(self, data: bytes) -> bytes:
        data = self._held + data
        self._held = b""
        while data:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4 or end > self._header_bytes:
                if len(data) > self._header_bytes:
                    raise BadMessage("head too large")
                self._held = data
                break
            answer = self._reader.read(data[:end])
            data = data[end:]
            if answer.status == 101:
                return self._begin_tunnel(answer, data)
            if answer.status >= 200:
                return self._begin_body(answer, data)
        return b""

    def _begin_tunnel(self, answer: Answer, data: bytes) -> bytes:
        if answer.upgrade != b"websocket":
            raise BadMessage("101 that nobody asked for")
        self._state = _TUNNEL
        self.on_upgrade()
        return _render(answer, b"Connection: Upgrade", b"Upgrade: websocket") + self._frames.feed(data)

    def _begin_body(self, answer: Answer, body: bytes) -> bytes:
        if self.head_only or answer.status in _BODYLESS:
            self._state = _DONE
            return _render(answer)
        if answer.length is not None:
            self._state, self._left = _LENGTH, answer.length
            return _render(answer) + self._count_down(body)
        self._state = _CHUNKED if answer.chunked else _CLOSE
        return _render(answer, b"Transfer-Encoding: chunked") + (self._strain(body) if body else b"")

    def _count_down(self, data: bytes) -> bytes:
        data = data[: self._left]
        self._left -= len(data)
        if not self._left:
            self._state = _DONE
        return data

    def _read_chunks(self, data: bytes) -> bytes:
        payload = self._chunks.feed(data, Everything())
        if self._chunks.done:
            self._state = _DONE
        return render_chunk(payload, self._chunks.done)


def _render(answer: Answer, *more: bytes) -> bytes:
    lines = [line for line in answer.lines if line.partition(b":")[0].lower() != TROUBLE]
    return b"\r\n".join((b"HTTP/1.1 " + answer.words, *lines, *more, b"", b""))


class ClientStrainer:
    """What the lane sends; frames are watched once the connection has become a WebSocket."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._frames: FrameStrainer | None = None

    def watch_frames(self) -> None:
        """From now on WebSocket frames come."""
        self._frames = FrameStrainer(masked=True)

    async def read(self, count: int) -> bytes:
        """Return the next bytes, b"" at the end."""
        while True:
            data = await self._source.read(count)
            if self._frames is None or not data:
                return data
            if out := self._frames.feed(data):
                return out


class FrameStrainer:
    """Follows WebSocket frames; in place of a message that is too large it puts a close frame, and then nothing."""

    def __init__(self, *, masked: bool) -> None:
        self._masked = masked
        self._left = 0
        self._held = b""
        self._bytes = 0
        self._frames = 0
        self._over = False

    def feed(self, data: bytes) -> bytes:
        """Return what of *data* may go on."""
        out: list[bytes] = []
        data = self._held + data
        self._held = b""
        at = 0
        while at < len(data) and not self._over:
            if self._left:
                piece = data[at : at + self._left]
                self._left -= len(piece)
            else:
                piece = self._read_header(data, at)
                if not piece:
                    self._held = data[at:]
                    break
            out.append(piece)
            at += len(piece)
        return b"".join(out)

    def _read_header(self, data: bytes, at: int) -> bytes:
        """Return the header of the frame at *at*, b"" where it is not all there, or the close frame in its place."""
        if len(data) < at + 2:
            return b""
        first, short = data[at], data[at + 1] & 0x7F
        wide = 2 if short == 126 else 8 if short == 127 else 0
        size = 2 + wide + (4 if data[at + 1] & 0x80 else 0)
        if len(data) < at + size:
            return b""
        length = int.from_bytes(data[at + 2 : at + 2 + wide], "big") if wide else short
        if not first & 0x08:
            self._bytes += length + size
            self._frames += 1
        if self._bytes > MESSAGE_BYTES or self._frames > MESSAGE_FRAMES or length > MESSAGE_BYTES:
            self._over = True
            return self._render_close()
        if first & 0x80 and not first & 0x08:
            self._bytes = self._frames = 0
        self._left = length
        return data[at : at + size]

    def _render_close(self) -> bytes:
        payload = (1009).to_bytes(2, "big") + b"message too large to be inspected"
        mask = b"\x80"[0] if self._masked else 0
        key = b"\0\0\0\0" if self._masked else b""
        return bytes((0x88, mask | len(payload))) + key + payload
