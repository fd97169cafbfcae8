"""
What a client of a worker notices while another floods that worker with the smallest units of every kind.

The lane runs in a process of its own, as `benchmarks/lane.py` starts it. One neighbour asks for a page every few
milliseconds on a kept connection; beside it, one flood at a time. Prints a table as in `neighbours.md`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import trustme

HERE = Path(__file__).resolve().parent
SECONDS = float(os.environ.get("SECONDS", "5"))
REST_S = 0.005
NEIGHBOUR = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SOCKET = (
    b"GET /%b HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

Flood = tuple[bytes, bytes, bool]
"""What begins it, what follows again and again, and whether each byte of that is a TLS record of its own."""

FLOODS: dict[str, Flood | None] = {
    "nothing": None,
    "requests answered 404": (b"", b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n" * 2000, False),
    "chunks of one byte, up": (b"POST /sink HTTP/1.1\r\nHost: localhost\r\n" + CHUNKED, b"1\r\nx\r\n" * 10_000, False),
    "chunks of one byte, down": (b"GET /chunks HTTP/1.1\r\nHost: localhost\r\n\r\n", b"", False),
    "frames of one byte, up": (SOCKET % b"sink", b"\x82\x81\0\0\0\0x" * 8000, False),
    "frames of one byte, down": (SOCKET % b"frames", b"", False),
    "TLS records of one byte": (
        b"POST /sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000000\r\n\r\n",
        b"x" * 1000,
        True,
    ),
}


def serve(sock: socket.socket) -> None:
    """Answer as the path says, for the benchmark's replica."""
    with contextlib.suppress(OSError), sock:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                data += (more := sock.recv(65536))
                if not more:
                    return
            head, _, data = data.partition(b"\r\n\r\n")
            path = head.split()[1]
            if b"pgrade: websocket" in head:
                sock.sendall(SWITCH)
            while path == b"/frames":
                sock.sendall(b"\x82\x01x" * 20_000)
            if path == b"/chunks":
                sock.sendall(b"HTTP/1.1 200 OK\r\n" + CHUNKED)
            while path == b"/chunks":
                sock.sendall(b"1\r\nx\r\n" * 10_000)
            while path == b"/sink":
                if not sock.recv(1 << 20):
                    return
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100)


def run_replica(server: socket.socket) -> None:
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()


def run_flood(flood: Flood, port: int, tls_port: int, authority: str) -> None:
    """Send *flood* for ever, as fast as it is taken, reading whatever comes back."""
    os.nice(10)
    begin, more, tiny = flood
    sock = socket.create_connection(("127.0.0.1", tls_port if tiny else port))
    if tiny:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock = ssl.create_default_context(cafile=authority).wrap_socket(sock, server_hostname="localhost")
    threading.Thread(target=lambda: [None for _ in iter(lambda: sock.recv(1 << 20), b"")], daemon=True).start()
    sock.sendall(begin)
    while more:
        for piece in [more[at : at + 1] for at in range(len(more))] if tiny else [more]:
            sock.sendall(piece)
    threading.Event().wait()


@contextlib.contextmanager
def lane(folder: Path, backend: int) -> Iterator[tuple[int, int]]:
    """Run the lane; yields its ports."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    ports = [free_port(), free_port()]
    command = [sys.executable, str(HERE / "lane.py"), "--backend", str(backend), "--host", "localhost"]
    command += ["--port", str(ports[0]), "--tls-port", str(ports[1]), "--log", os.devnull]
    process = subprocess.Popen([*command, "--cert", str(folder / "cert.pem"), "--key", str(folder / "key.pem")])
    try:
        while any(socket.socket().connect_ex(("127.0.0.1", port)) for port in ports):
            time.sleep(0.1)
        yield ports[0], ports[1]
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, seconds: float) -> list[float]:
    """Ask again and again; return how many milliseconds each answer took."""
    took: list[float] = []
    ends = time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port)) as sock:
        while time.monotonic() < ends:
            began = time.perf_counter()
            sock.sendall(NEIGHBOUR)
            data = b""
            while not data.endswith(b"x" * 100):
                data += sock.recv(65536)
            took.append((time.perf_counter() - began) * 1000)
            time.sleep(REST_S)
    return took


def beside(flood: Flood | None, port: int, tls_port: int, authority: str) -> list[float]:
    if flood is None:
        return ask(port, SECONDS)
    process = multiprocessing.Process(target=run_flood, args=(flood, port, tls_port, authority), daemon=True)
    process.start()
    try:
        time.sleep(1)
        return ask(port, SECONDS)
    finally:
        process.kill()
        process.join()


def main() -> int:
    multiprocessing.set_start_method("fork")
    server = socket.create_server(("127.0.0.1", 0), backlog=100)
    replica = multiprocessing.Process(target=run_replica, args=(server,), daemon=True)
    replica.start()
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Linux {platform.release()}"
    print(f"{machine}, Python {platform.python_version()}\n")
    print("| beside a flood of | answers | median ms | p99 ms | longest ms |\n|---|--:|--:|--:|--:|")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder, lane(Path(folder), server.getsockname()[1]) as ports:
        for name, flood in FLOODS.items():
            took = beside(flood, *ports, str(Path(folder) / "authority.pem"))
            p99 = statistics.quantiles(took, n=100)[98]
            worst = max(worst, p99)
            print(f"| {name} | {len(took)} | {statistics.median(took):.1f} | {p99:.1f} | {max(took):.1f} |", flush=True)
    replica.kill()
    return 0 if worst < 50 else 1


if __name__ == "__main__":
    sys.exit(main())
