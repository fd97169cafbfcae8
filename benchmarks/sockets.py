"""WebSocket messages for the benchmark: a server that echoes, and clients that wait for each echo before the next."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
import time

import uvloop

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PAYLOAD = b"x" * 100
_FRAME = bytes((0x82, 0x80 | len(PAYLOAD))) + bytes(4) + PAYLOAD
"""Masked with nought, which is a mask like any other."""

_ECHO_BYTES = 2 + len(PAYLOAD)


class Echo(asyncio.Protocol):
    """Answers the handshake, then sends each frame back without its mask."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._buffer = b""
        self._open = False

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            self._open, self._buffer = True, rest
            self._transport.write(_handshake(head))  # type: ignore[attr-defined]
        count = len(self._buffer) // len(_FRAME)
        if count:
            self._buffer = self._buffer[count * len(_FRAME) :]
            self._transport.write((bytes((0x82, len(PAYLOAD))) + PAYLOAD) * count)  # type: ignore[attr-defined]


def _handshake(head: bytes) -> bytes:
    lines = {line.partition(b":")[0].lower(): line.partition(b":")[2].strip() for line in head.split(b"\r\n")[1:]}
    accept = base64.b64encode(hashlib.sha1(lines[b"sec-websocket-key"] + _MAGIC).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


class Asker(asyncio.Protocol):
    """Sends a frame, waits for its echo, and so on; notes how long each took."""

    def __init__(self, host: str, taken: list[float]) -> None:
        self._host = host
        self._taken = taken
        self._buffer = b""
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        key = base64.b64encode(b"0123456789abcdef").decode()
        transport.write(  # type: ignore[attr-defined]
            f"GET /ws HTTP/1.1\r\nHost: {self._host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                raise SystemExit(f"no WebSocket: {head[:60]!r}")
            self._open, self._buffer = True, rest
            self._ask()
        while len(self._buffer) >= _ECHO_BYTES:
            self._buffer = self._buffer[_ECHO_BYTES:]
            self._taken.append(time.monotonic() - self._asked)
            self._ask()

    def _ask(self) -> None:
        self._asked = time.monotonic()
        self._transport.write(_FRAME)  # type: ignore[attr-defined]


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port)
    await server.serve_forever()


async def ask(port: int, seconds: float, connections: int) -> None:
    """Ask for *seconds*; prints messages a second and the 99th percentile in milliseconds."""
    taken: list[float] = []
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Asker(f"127.0.0.1:{port}", taken), "127.0.0.1", port)
    await asyncio.sleep(seconds)
    order = sorted(taken)
    print(len(order), len(order) / seconds, order[int(len(order) * 0.99)] * 1000 if order else 0.0)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if sys.argv[1] == "serve":
            runner.run(serve(int(sys.argv[2])))
        else:
            runner.run(ask(int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
