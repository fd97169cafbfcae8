"""A lane on a real loop in a thread, real backends that say exactly what a test wants, and raw-socket clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import uvloop

from controller.proxy.core import Core, Limits
from controller.proxy.lane import Client
from controller.routing.table import AppRoutes, Policy, Rule, Table, Upstream

LONGEST_S = 10.0
USUAL = Limits()

Script = Callable[["Visit"], Awaitable[None]]


@dataclass
class Visit:
    """One connection to a backend, as its script sees it."""

    backend: Backend
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    raw: bytearray

    async def head(self) -> bytes:
        """Read one request head; b"" at the end of the connection."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        self.raw += head
        self.backend.heads.append(head)
        return head

    async def exactly(self, count: int) -> bytes:
        data = await self.reader.readexactly(count)
        self.raw += data
        return data

    async def until(self, mark: bytes) -> bytes:
        data = await self.reader.readuntil(mark)
        self.raw += data
        return data

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.writer.transport.abort()


@dataclass
class Backend:
    """A server that follows a script on every connection."""

    name: str
    port: int
    heads: list[bytes] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    open: int = 0
    gate: bool = False


def answer(body: bytes = b"ok", status: str = "200 OK", *extra: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in extra)
    return f"HTTP/1.1 {status}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def opened(backend: Backend) -> None:
    """Wait until the test opens the backend's gate."""
    while not backend.gate:  # noqa: ASYNC110 - the test sets it from another thread
        await asyncio.sleep(0.005)


async def polite(visit: Visit) -> None:
    """Answer each request with the backend's name, reading bodies as HTTP says."""
    while head := await visit.head():
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            await visit.until(b"0\r\n\r\n")
        elif b"content-length: " in lower:
            await visit.exactly(int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        body = b"" if head.startswith(b"HEAD") else visit.backend.name.encode()
        await visit.say(answer(body))


class Lane:
    """A core and its listening socket on a loop of their own."""

    def __init__(self, limits: Limits = USUAL, **wishes: Any) -> None:
        self.reports: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.loop = uvloop.new_event_loop()
        self.problems: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.problems.append(context))
        self._thread = threading.Thread(target=self.loop.run_forever, name="lane", daemon=True)
        self._thread.start()
        self._servers: list[asyncio.Server] = []
        self._version = 0
        self.core = self.call(
            lambda: Core(
                limits, self.reports.append, access_log=lambda line: self.log.append(json.loads(line)), **wishes
            )
        )
        self.port = self.do(self._listen())

    def call(self, what: Callable[[], Any]) -> Any:
        """Run *what* on the loop's thread and return its result."""

        async def run() -> Any:
            return what()

        return self.do(run())

    def do(self, what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(LONGEST_S)

    async def _listen(self) -> int:
        self.core.start()
        sock = socket.create_server(("127.0.0.1", 0), backlog=100)
        port = int(sock.getsockname()[1])
        server: Any = await self.loop.create_server(lambda: Client(self.core, port), sock=sock)
        self._servers.append(server)
        self.core.stop_listening = server.close
        return port

    def backend(self, script: Script = polite, name: str = "one") -> Backend:
        """Start a backend that follows *script*."""
        backend = Backend(name, 0)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            visit = Visit(backend, reader, writer, len(backend.visits), bytearray())
            backend.visits.append(visit)
            backend.open += 1
            try:
                await script(visit)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                pass
            except RuntimeError as error:
                if "closed" not in str(error):  # what uvloop says of a write to a connection that was reset
                    raise
            finally:
                backend.open -= 1
                with contextlib.suppress(Exception):
                    writer.close()

        async def start() -> None:
            server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**22)
            self._servers.append(server)
            backend.port = server.sockets[0].getsockname()[1]

        self.do(start())
        return backend

    def take(self, *apps: AppRoutes, key: str = "key") -> int:
        """Put a table of these apps in force and return its version."""
        self._version += 1
        table = Table(version=self._version, apps={routes.app: routes for routes in apps}, sticky_key=key)
        self.call(lambda: self.core.take(table))
        return self._version

    def serve(self, *scripts: Script, **policy: Any) -> list[Backend]:
        """Serve one app for any host by a backend for each script."""
        backends = [self.backend(script, f"b{index}") for index, script in enumerate(scripts or (polite,))]
        self.take(an_app(*backends, policy=Policy(**policy)))
        return backends

    def stop(self) -> None:
        async def end() -> None:
            self.core.stop()
            for server in self._servers:
                server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.do(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(LONGEST_S)
        self.loop.close()
        assert not self.problems, self.problems


def an_upstream(backend: Backend, **changes: Any) -> Upstream:
    return replace(Upstream(id=backend.name, address="127.0.0.1", port=backend.port, release=1), **changes)


def an_app(
    *backends: Backend, app: str = "shop", host: str | None = None, path: str = "/", **changes: Any
) -> AppRoutes:
    rules = (Rule(host=host, path=path),)
    entry = AppRoutes(app=app, rules=rules, upstreams=tuple(an_upstream(backend) for backend in backends))
    return replace(entry, **changes)


@dataclass
class Reply:
    """One answer as a client read it."""

    status: int
    head: bytes
    body: bytes
    whole: bool = True

    def header(self, name: str) -> str | None:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.lower().encode():
                return value.strip().decode("latin-1")
        return None


class Caller:
    """A client that sends exactly what it is told and reads answers by its own simple parser."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=LONGEST_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def more(self) -> bytes:
        """Read something; b"" at the end of the connection."""
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            return b""
        self.buffer += data
        return data

    def until(self, mark: bytes) -> bytes:
        """Read up to and with *mark*; what there is if the connection ends before."""
        while mark not in self.buffer:
            if not self.more():
                found, self.buffer = self.buffer, b""
                return found
        head, _, self.buffer = self.buffer.partition(mark)
        return head + mark

    def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count and self.more():
            pass
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def rest(self) -> bytes:
        while self.more():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def reply(self, *, head_only: bool = False, interim: bool = False) -> Reply:
        """Read one answer."""
        head = self.until(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 "):
            raise AssertionError(f"no answer, but {head[:80]!r}")
        reply = Reply(int(head[9:12]), head, b"")
        if reply.status < 200:
            return reply if interim or reply.status == 101 else self.reply(head_only=head_only)
        if head_only or reply.status in (204, 304):
            return reply
        if reply.header("transfer-encoding"):
            self._read_chunks(reply)
        elif (length := reply.header("content-length")) is not None:
            reply.body = self.exactly(int(length))
            reply.whole = len(reply.body) == int(length)
        else:
            reply.body = self.rest()
        return reply

    def _read_chunks(self, reply: Reply) -> None:
        while True:
            line = self.until(b"\r\n")
            if not line.endswith(b"\r\n"):
                reply.whole = False
                return
            size = int(line, 16)
            data = self.exactly(size + 2)
            if len(data) < size + 2:
                reply.body += data
                reply.whole = False
                return
            reply.body += data[:size]
            if not size:
                return

    def get(
        self, path: str = "/", *extra: str, method: str = "GET", host: str = "shop.example", body: bytes = b""
    ) -> Reply:
        lines = "".join(f"{line}\r\n" for line in extra)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self.send(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}{length}\r\n".encode() + body)
        return self.reply(head_only=method == "HEAD")

    def is_closed(self) -> bool:
        """Wait for the end of the connection; False where something arrives instead."""
        return not self.buffer and not self.more()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait_for(what: Callable[[], Any], longest_s: float = LONGEST_S) -> Any:
    """Return *what*'s first true value; fail where there is none in time."""
    ends = time.monotonic() + longest_s
    while not (value := what()):
        if time.monotonic() > ends:
            raise AssertionError("waited in vain")
        time.sleep(0.005)
    return value


@contextlib.contextmanager
def a_lane(limits: Limits = USUAL, **wishes: Any) -> Iterator[Lane]:
    lane = Lane(limits, **wishes)
    try:
        yield lane
    finally:
        lane.stop()
