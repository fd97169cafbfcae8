"""One connection to a replica: sends a request, reads its answer, and knows whether it may be used again."""

from __future__ import annotations

import asyncio
from typing import Protocol

from controller.proxy.chunks import ChunkReader
from controller.proxy.framing import BadMessage
from controller.proxy.limits import Limits
from controller.proxy.replies import Answer, AnswerReader
from controller.proxy.sockets import Doorbell, was_reset
from controller.proxy.turns import Inlet, Turns

_INTERIMS = 20
"""1xx answers to one request."""
_BODYLESS = frozenset((204, 304))
_HEAD, _LENGTH, _CHUNKED, _CLOSE, _IDLE, _TUNNEL = range(6)


class Taker(Protocol):
    """Who waits for the answer."""

    head_only: bool
    """The request was HEAD: its answer has no body, whatever it claims."""
    wants_tunnel: bool
    """101 is an answer to this request."""

    def connected(self, link: Link) -> None: ...
    def refused(self, why: str) -> None: ...
    def interim(self, answer: Answer) -> None: ...
    def agrees(self, answer: Answer) -> bool: ...
    def answered(self, answer: Answer, body: bytes, last: bool) -> None: ...
    def flows(self, data: bytes, last: bool) -> None: ...
    def broken(self, why: str) -> None: ...
    def pause_sending(self) -> None: ...
    def resume_sending(self) -> None: ...


class Upward(Protocol):
    """Who takes every byte once the connection is a tunnel."""

    def take(self, data: bytes) -> bytes:
        """Take bytes; return those that have to wait."""
        ...

    def lost(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Home(Protocol):
    """Where a link belongs while nobody uses it."""

    def lost(self, link: Link) -> None: ...
    def release(self, link: Link, now: float) -> None: ...
    def distrust(self) -> None: ...


class Link(asyncio.Protocol):
    """A connection to one replica, used by one exchange at a time."""

    __slots__ = (
        "_bell", "_chunks", "_head", "_inlet", "_interims", "_left", "_limits", "_reader", "_rest", "_state",
        "_tunnel", "_turns", "epoch", "fresh", "heard", "home", "idle_since", "rests", "reusable", "taker", "transport",
    )  # fmt: skip

    def __init__(self, home: Home, limits: Limits, reader: AnswerReader, turns: Turns) -> None:
        self.home = home
        self._turns = turns
        self._limits = limits
        self._reader = reader
        self.taker: Taker | None = None
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self._inlet: Inlet = None  # type: ignore[assignment]
        self._state = _IDLE
        self._head = b""
        self._rest = b""
        """What was read and waits for its turn."""
        self._interims = 0
        self._left = 0
        self._chunks: ChunkReader | None = None
        self._tunnel: Upward | None = None
        self._bell: Doorbell | None = None
        self.epoch = 0
        """The pool's when it was made."""
        self.reusable = True
        self.fresh = True
        """Nothing was ever answered on it."""
        self.heard = False
        """A byte came back since the last request."""
        self.rests = False
        """A body that must not be there may still come: it is not used again at once."""
        self.idle_since = 0.0

    def expect(self, taker: Taker) -> None:
        """Read the next answer for *taker*."""
        self.taker = taker
        self._state = _HEAD
        self._interims = 0
        self.heard = False

    def close(self) -> None:
        """End the connection; whoever takes from it is told nothing more."""
        self.taker = None
        self._state = _IDLE
        self._rest = b""
        self.reusable = False
        if self.transport is not None:
            self.transport.abort()

    def is_quiet(self) -> bool:
        """Say whether nothing waits to be read on it: neither bytes that nobody asked for, nor its end."""
        if self._bell is None:
            self._bell = Doorbell(self.transport)
        found = self._bell.look()
        if found == "bytes":
            self._find_stray()
        return not found

    def pause(self) -> None:
        """Read no more until `resume`."""
        self._inlet.stop()

    def resume(self) -> None:
        """Read again."""
        self._inlet.start()

    def tunnel(self, upward: Upward) -> None:
        """Hand every byte from now on to *upward*."""
        self._tunnel = upward
        self._state = _TUNNEL

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # a TCP transport of uvloop or asyncio
        self.transport.set_write_buffer_limits(high=self._limits.buffer_bytes)
        self._inlet = Inlet(self.transport, self._turns, self._go_on)

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        taker, self.taker = self.taker, None
        self.home.lost(self)
        if self._tunnel is not None:
            self._tunnel.lost()
        elif taker is not None:
            if self._state == _CLOSE and exc is None:
                taker.flows(b"", True)
            else:
                taker.broken("reset" if exc is not None else "closed")

    def eof_received(self) -> bool:
        taker = self.taker
        if self._state == _CLOSE and taker is not None and was_reset(self.transport):
            self.close()
            taker.broken("reset")
        return False

    def pause_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.pause()
        elif self.taker is not None:
            self.taker.pause_sending()

    def resume_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.resume()
        elif self.taker is not None:
            self.taker.resume_sending()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        if self._inlet.waits:
            self._rest = data
            return
        try:
            if self._state == _HEAD:
                self._read_head(data)
            else:
                self._read_body(data)
        except BadMessage as bad:
            taker = self.taker
            self.close()
            if taker is not None:
                taker.broken(f"answer: {bad.why}")

    def _go_on(self) -> None:
        """Its turn has come: work off more of what was read."""
        if self._rest:
            self.data_received(b"")

    def _wait(self, rest: bytes) -> None:
        """Let *rest* wait for the next turn, if there is any."""
        if rest:
            self._rest = rest
            self._inlet.wait()

    def _pass_up(self, data: bytes, tunnel: Upward) -> None:
        turns = self._turns
        turns.begin()
        while data and turns.left > 0:
            data = tunnel.take(data)
        self._wait(data)

    def _read_body(self, data: bytes) -> None:
        state, taker = self._state, self.taker
        if self._tunnel is not None:
            self._pass_up(data, self._tunnel)
        elif state == _IDLE or taker is None:
            self._find_stray()
            self.close()
        elif state == _LENGTH:
            data, last = self._count_down(data)
            taker.flows(data, last)
        elif self._chunks is not None:
            self._read_chunks(data, taker, self._chunks)
        else:
            taker.flows(data, False)

    def _find_stray(self) -> None:
        """Bytes after an answer are nobody's: the next exchange would take them for its own."""
        self.reusable = False
        self.home.distrust()

    def _read_head(self, data: bytes) -> None:
        self.heard = True
        if self._head:
            data = self._head + data
            self._head = b""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(data) > self._limits.answer_header_bytes:
                raise BadMessage("head too large")
            self._head = data
            return
        if end > self._limits.answer_header_bytes:
            raise BadMessage("head too large")
        whole = end == len(data)
        answer = self._reader.read(data if whole else data[:end])
        self.fresh = False
        taker = self.taker
        if taker is None:
            self.close()
        elif answer.status < 200:
            self._take_interim(answer, data[end:], taker)
        else:
            self._begin_body(answer, b"" if whole else data[end:], taker)

    def _take_interim(self, answer: Answer, rest: bytes, taker: Taker) -> None:
        self._interims += 1
        if self._interims > _INTERIMS:
            raise BadMessage("too many 1xx answers")
        if answer.status != 101:
            taker.interim(answer)
            if rest and self.taker is taker:
                self._read_head(rest)
            return
        if not taker.wants_tunnel or answer.upgrade != b"websocket" or not taker.agrees(answer):
            raise BadMessage("101 that nobody asked for")
        self._state = _TUNNEL
        self.reusable = False
        taker.answered(answer, b"", True)
        if self._tunnel is not None:
            self._pass_up(rest, self._tunnel)

    def _begin_body(self, answer: Answer, body: bytes, taker: Taker) -> None:
        self.reusable = not answer.close
        if taker.head_only or answer.status in _BODYLESS:
            if answer.chunked or answer.length:
                self.reusable = False  # it may send the body that it announced, at any time
            self.rests = taker.head_only
            if body:
                self._find_stray()
            self._end()
            taker.answered(answer, b"", True)
        elif answer.chunked:
            chunks = self._chunks = ChunkReader()
            self._state = _CHUNKED
            self._turns.begin()
            payload = chunks.feed(body, self._turns) if body else b""
            self._wait(b"" if chunks.done else chunks.rest)
            taker.answered(answer, payload, self._ended(chunks))
        elif answer.length is not None:
            self._left = answer.length
            self._state = _LENGTH
            body, last = self._count_down(body)
            taker.answered(answer, body, last)
        else:
            self.reusable = False
            self._state = _CLOSE
            taker.answered(answer, body, False)

    def _count_down(self, data: bytes) -> tuple[bytes, bool]:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return data, False
        if left < 0:
            data = data[: self._left]
            self._find_stray()
        self._left = 0
        self._end()
        return data, True

    def _read_chunks(self, data: bytes, taker: Taker, chunks: ChunkReader) -> None:
        self._turns.begin()
        payload = chunks.feed(data, self._turns)
        self._wait(b"" if chunks.done else chunks.rest)
        last = self._ended(chunks)
        if payload or last:
            taker.flows(payload, last)

    def _ended(self, chunks: ChunkReader) -> bool:
        if not chunks.done:
            return False
        if chunks.rest:
            self._find_stray()
        self._chunks = None
        self._end()
        return True

    def _end(self) -> None:
        self._state = _IDLE
        self.taker = None
