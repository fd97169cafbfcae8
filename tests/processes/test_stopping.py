"""How a service ends, and how another one takes its place."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from tests.processes.service import HERE, Load, Service, backend, free_port, until


@pytest.fixture
def shop():
    with backend("shop-a") as made:
        yield made


@pytest.fixture
def start(tmp_path, shop):
    made: list[Service] = []

    def begin(**options) -> Service:
        service = Service(tmp_path, **options)
        made.append(service)
        service.start()
        service.publish("shop", shop)
        return service

    yield begin
    for service in made:
        service.close()


class Systemd:
    """The socket that sd_notify speaks to."""

    def __init__(self, place) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(place))
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(OSError):
            while data := self.sock.recv(4096):
                self.lines += data.decode().splitlines()

    def heard(self, line: str) -> int:
        return self.lines.count(line)

    def close(self) -> None:
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def test_stopping_refuses_newcomers_and_lets_open_requests_end(start, tmp_path):
    systemd = Systemd(tmp_path / "notify")
    environ = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "400000",
        "OTON_ACCESS_LOG": str(tmp_path / "access.log"),
    }
    service = start(environ=environ)
    until(lambda: systemd.heard("READY=1") == 1)
    until(lambda: systemd.heard("WATCHDOG=1") >= 3)

    # A rotated access log is followed at SIGHUP.
    service.ask(path="/before?secret=1")
    until(lambda: (tmp_path / "access.log").read_text().count("\n") == 1)
    (tmp_path / "access.log").rename(tmp_path / "access.log.1")
    old = service.workers()
    service.send(signal.SIGHUP)
    until(lambda: systemd.heard("RELOADING=1") == 1 and systemd.heard("READY=1") == 2)
    until(lambda: not set(old) & set(service.workers()))
    service.ask(path="/after")
    until(lambda: json.loads((tmp_path / "access.log").read_text())["path"] == "/after")
    assert "secret" not in (tmp_path / "access.log.1").read_text()

    with ThreadPoolExecutor() as pool:
        slow = pool.submit(service.ask, "shop", "/slow/1.5")
        until(lambda: any(row["requests"] for row in service.order(counters=True)["active"]))
        service.send(signal.SIGTERM)
        with pytest.raises(OSError):
            ask_until_refused(service)
        assert slow.result(10) == (200, "shop-ashop-a")
    assert service.wait(10) == 0
    assert systemd.heard("STOPPING=1") == 1
    systemd.close()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in ("Z", "X")


def ask_until_refused(service) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        service.ask(timeout_s=1)


def is_refused(shake_hands) -> bool:
    try:
        shake_hands()
    except ssl.SSLError as error:
        return error.reason == "TLSV1_UNRECOGNIZED_NAME"
    return False


def test_certificates_go_to_every_worker_and_to_each_that_comes_later_but_never_to_disk(start, shop):
    tls_port = free_port()
    service = start(environ={"TLS_PORT": str(tls_port)}, workers=1)
    authority = trustme.CA()
    leaf = authority.issue_cert("shop.test")
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems).decode()
    key = leaf.private_key_pem.bytes().decode()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    def shake_hands() -> bool:
        raw = socket.create_connection(("127.0.0.1", tls_port), timeout=5)
        with raw, trusting.wrap_socket(raw, server_hostname="shop.test") as wrapped:
            wrapped.sendall(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
            return wrapped.recv(15) == b"HTTP/1.1 200 OK"

    with pytest.raises(OSError):
        shake_hands()
    service.order(certificates={"shop.test": [chain, key]})
    until(shake_hands)
    old = service.workers()
    os.kill(old[min(old)], signal.SIGKILL)
    until(lambda: not set(old) & set(service.workers()) and service.is_settled())
    assert shake_hands()

    controller = service.status()["pid"]
    os.kill(controller, signal.SIGSTOP)
    try:
        old = service.workers()
        os.kill(old[min(old)], signal.SIGKILL)
        until(lambda: service.said("no controller: serving from the snapshot"))
        assert until(shake_hands), "a worker is born with them while the controller is away"
    finally:
        os.kill(controller, signal.SIGCONT)
    until(service.is_settled)
    service.order(certificates={})
    until(lambda: is_refused(shake_hands))
    old = service.workers()
    os.kill(old[min(old)], signal.SIGKILL)
    until(lambda: not set(old) & set(service.workers()) and service.is_settled())
    assert is_refused(shake_hands), "it is born without those that are gone"
    assert "PRIVATE KEY" not in (service.folder / "err").read_text()
    for place in service.state.rglob("*"):
        assert not place.is_file() or b"PRIVATE KEY" not in place.read_bytes()


def test_what_is_still_open_at_the_stop_timeout_is_cut(start):
    service = start(environ={"OTON_STOP_TIMEOUT": "1s"}, workers=1)
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(service.ask, "shop", "/slow/20", 30)
        until(lambda: any(row["requests"] for row in service.order(counters=True)["active"]))
        began = time.monotonic()
        service.send(signal.SIGTERM)
        assert service.wait(10) == 0
        assert time.monotonic() - began < 6
        with pytest.raises(Exception, match=r"(IncompleteRead|reset|closed|Remote)"):
            slow.result(5)
    assert not service.workers()


def test_a_second_signal_ends_everything_at_once(start):
    service = start(workers=1)
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(service.ask, "shop", "/slow/20", 30)
        until(lambda: any(row["requests"] for row in service.order(counters=True)["active"]))
        service.send(signal.SIGINT)
        until(lambda: service.said("stopping"))
        assert service.process.poll() is None
        began = time.monotonic()
        service.send(signal.SIGTERM)
        assert service.wait(10) == 0
        assert time.monotonic() - began < 3
        assert slow.exception(5) is not None
    until(lambda: not service.workers())


def test_a_killed_supervisor_takes_its_processes_along_and_the_next_one_starts(start, shop):
    first = start(workers=1)
    status = first.status()
    first.process.kill()
    first.wait(5)
    until(lambda: not first.workers() and first.nursery() is None)
    until(lambda: not is_alive(status["pid"]))
    second = start(workers=1, port=first.port)
    assert second.ask() == (200, "shop-ashop-a")
    assert second.status()["version"] == status["version"], "the routes were there from the start"


def test_with_socket_activation_even_the_supervisor_is_replaced_without_a_refused_connection(start, tmp_path):
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    fake_systemd = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.dup2(int(sys.argv[1]), 3); os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    options = {
        "command": (sys.executable, "-c", fake_systemd, str(listener.fileno()), str(HERE / "serve.py")),
        "pass_fds": (listener.fileno(),),
    }
    service = Service(tmp_path, workers=1, environ={"LISTEN_FDS": "1", "PORT": "1"}, port=listener.getsockname()[1])
    service.environ["PORT"] = "1"
    try:
        service.start(**options)
        with backend("shop-x") as shop:
            service.publish("shop", shop)
            with Load(service, "shop-xshop-x") as load:
                load.goes_on()
                service.send(signal.SIGTERM)
                assert service.wait() == 0
                (tmp_path / "err").rename(tmp_path / "err.1")
                service.start(**options)
                load.goes_on()
            assert load.failures == []
    finally:
        service.close()
        listener.close()
