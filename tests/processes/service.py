"""A whole service around the stub controller, a backend behind it, and clients in front."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from controller.routing.table import AppRoutes, Rule, Upstream, encode_app

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE_S = 30.0


def until(
    condition: Callable[[], Any], what: str = "it did not come true in time", patience_s: float = PATIENCE_S
) -> Any:
    deadline = time.monotonic() + patience_s
    while True:
        with suppress(OSError, ValueError, http.client.HTTPException):
            if found := condition():
                return found
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Backend:
    """Answers with its name; /slow/S takes S seconds, half of its answer first; /events never ends."""

    def __init__(self, name: str) -> None:
        backend = self
        self.name = name

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == "/events":
                    self.stream()
                    return
                body = backend.name.encode() * 2
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(backend.name)])
                self.wfile.flush()
                if self.path.startswith("/slow/"):
                    time.sleep(float(self.path.rpartition("/")[2]))
                self.wfile.write(body[len(backend.name) :])

            def stream(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                with suppress(OSError):
                    while True:
                        self.wfile.write(b"data: tick\n\n")
                        self.wfile.flush()
                        time.sleep(0.1)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                return

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def upstream(self) -> Upstream:
        return Upstream(id=self.name, address="127.0.0.1", port=self.server.server_address[1], release=1)


class Service:
    """One `oton serve` with the stub controller."""

    def __init__(
        self, folder: Path, *, workers: int = 2, environ: Mapping[str, str] = {}, port: int | None = None
    ) -> None:
        self.folder, self.port = folder, port or free_port()
        self.state = folder / "state"
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTON_", "DB_"))} | {
            "PORT": str(self.port),
            "OTON_BIND": "127.0.0.1",
            "OTON_STATE": str(self.state),
            "OTON_SOCKET": str(folder / "oton.sock"),
            "OTON_DESIRED": str(folder / "desired"),
            "DB_PATH": str(folder / "database.db"),
            "OTON_WORKERS": str(workers),
            "OTON_API": "off",
            "OTON_ACCESS_LOG": "off",
            "OTON_LOG_FORMAT": "json",
            "LOG_LEVEL": "debug",
            "PYTHONPATH": str(ROOT),
            **environ,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True, **options: Any) -> Service:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = options.pop("command", (sys.executable, str(HERE / "serve.py")))
        with (self.folder / "err").open("ab") as err, (self.folder / "out").open("ab") as out:
            self.process = subprocess.Popen(
                command, env=self.environ, cwd=self.folder, stdout=out, stderr=err, **options
            )
        if wait:
            until(lambda: self.said("serving"), "it never served")
        return self

    def log(self) -> list[dict[str, Any]]:
        lines = (self.folder / "err").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def said(self, text: str) -> list[dict[str, Any]]:
        return [entry for entry in self.log() if text in entry["message"]]

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        assert self.process is not None
        return self.process.wait(timeout_s)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.send(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5)
            if self.process.poll() is None:
                self.send(signal.SIGTERM)
            try:
                self.process.wait(10)
            finally:
                self.process.kill()
        for pid in self.workers().values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # Looking in

    def workers(self) -> dict[int, int]:
        """Number -> pid of our workers, as the kernel lists them."""
        return {int(name.rpartition("-")[2]): pid for pid, name in self._ours() if name.startswith("oton-worker-")}

    def nursery(self) -> int | None:
        return next((pid for pid, name in self._ours() if name == "oton-nursery"), None)

    def _ours(self) -> list[tuple[int, str]]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if (entry / "cwd").readlink() == self.state / "proxy":
                        found.append((int(entry.name), (entry / "comm").read_text().strip()))
        return found

    def order(self, **order: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(self.state / "stub.sock"))
            with sock.makefile("rw") as file:
                file.write(json.dumps(order) + "\n")
                file.flush()
                answer: dict[str, Any] = json.loads(file.readline())
                return answer

    def status(self) -> dict[str, Any]:
        return self.order(status=True)

    def publish(self, app: str, *backends: Backend) -> None:
        routes = AppRoutes(
            app=app, rules=(Rule(host=f"{app}.test"),), upstreams=tuple(one.upstream() for one in backends)
        )
        until(lambda: "version" in self.order(publish={app: encode_app(routes)}))
        until(self.is_settled, "it was never confirmed")

    def is_settled(self) -> bool:
        status = self.status()
        return bool(status["current"] and status["workers"]) and set(status["workers"].values()) == {status["version"]}

    def ask(self, app: str = "shop", path: str = "/", timeout_s: float = 10.0) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("GET", path, headers={"Host": f"{app}.test", "Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@contextmanager
def backend(name: str) -> Iterator[Backend]:
    made = Backend(name)
    try:
        yield made
    finally:
        made.close()


class Load:
    """Requests without a pause from two threads, each on a connection of its own, or on kept ones as long as they last."""

    def __init__(self, service: Service, expected: str, *, keep_alive: bool = False) -> None:
        self.sent = 0
        self._keep_alive = keep_alive
        self.failures: list[str] = []
        self._service, self._expected = service, expected
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _ask_on(self, connection: http.client.HTTPConnection) -> tuple[int, str]:
        connection.request("GET", "/", headers={"Host": "shop.test"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def _run(self) -> None:
        kept = http.client.HTTPConnection("127.0.0.1", self._service.port, timeout=10)
        with closing(kept):
            self._run_on(kept)

    def _run_on(self, kept: http.client.HTTPConnection) -> None:
        while not self._stop.is_set():
            self.sent += 1
            try:
                answer = self._ask_on(kept) if self._keep_alive else self._service.ask()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                kept.close()
            else:
                if answer != (200, self._expected):
                    self.failures.append(repr(answer))
            self._stop.wait(0.003)

    def goes_on(self, more: int = 50) -> None:
        """Return once *more* further requests were sent."""
        goal = self.sent + more
        until(lambda: self.sent >= goal)
