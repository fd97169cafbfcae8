"""A sham engine on a Unix socket: answers what a test says, for what the real one cannot be made to do."""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

Answer = Callable[["Call"], None]


@dataclass
class Call:
    """One request, and the ways to answer it."""

    line: str
    headers: dict[str, str]
    body: bytes
    handler: BaseHTTPRequestHandler = field(repr=False)

    def reply(self, status: int, value: Any) -> None:
        """Answer with JSON."""
        data = json.dumps(value).encode()
        self.handler.send_response(status)
        self.handler.send_header("Content-Type", "application/json")
        self.handler.send_header("Content-Length", str(len(data)))
        self.handler.end_headers()
        self.handler.wfile.write(data)

    def stream(self, *values: Any) -> None:
        """Answer with a stream of JSON values, as a pull does."""
        self.handler.send_response(200)
        self.handler.send_header("Transfer-Encoding", "chunked")
        self.handler.end_headers()
        for value in values:
            self.chunk(value)
        self.handler.wfile.write(b"0\r\n\r\n")

    def chunk(self, value: Any) -> None:
        data = json.dumps(value).encode() + b"\r\n"
        self.handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.handler.wfile.flush()

    def hang_up(self) -> None:
        """Break the connection without an answer."""
        self.handler.close_connection = True


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    block_on_close = False


class Sham:
    """Rules are tried newest first; what no rule answers is a 404."""

    def __init__(self, folder: Path) -> None:
        self.calls: list[Call] = []
        self._rules: list[tuple[re.Pattern[str], Answer]] = []
        self.on(r"/_ping$|/_ping ", lambda call: call.reply(200, "OK"))
        self.on(r"/version", lambda call: call.reply(200, {"ApiVersion": "1.41", "Version": "20.10"}))
        self.path = folder / "docker.sock"
        self.host = f"unix://{self.path}"
        self._server = _Server(str(self.path), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def on(self, pattern: str, answer: Answer) -> None:
        """Answer requests whose first line matches like this from now on."""
        self._rules.insert(0, (re.compile(pattern), answer))

    def lines(self, pattern: str) -> list[str]:
        """Return the first lines of the requests that matched."""
        return [call.line for call in self.calls if re.search(pattern, call.line)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _answer(self, call: Call) -> None:
        self.calls.append(call)
        for pattern, answer in self._rules:
            if pattern.search(call.line):
                answer(call)
                return
        call.reply(404, {"message": f"no rule for {call.line}"})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        sham = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                try:
                    sham._answer(Call(f"{self.command} {self.path}", dict(self.headers), body, self))
                except OSError:
                    self.close_connection = True  # the client has gone

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self.handle_any
                raise AttributeError(name)

            def address_string(self) -> str:
                return "test"

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


@contextmanager
def a_sham() -> Iterator[Sham]:
    # Not under pytest's tmp_path: a Unix socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="oton-sham-") as folder:
        sham = Sham(Path(folder))
        try:
            yield sham
        finally:
            sham.close()
