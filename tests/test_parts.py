"""The test parts themselves: a checking client that cannot see a loss would prove nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.parts.client import CheckingClient
from tests.parts.relay import Relay
from tests.parts.wait import free_port, wait_for

BACKEND = Path(__file__).parent / "parts" / "backend.py"


@contextmanager
def a_backend(tmp_path: Path, **environment: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port = free_port()
    logs = tmp_path / "logs"
    logs.mkdir(exist_ok=True)
    variables = {**os.environ, "PORT": str(port), "LOG_DIR": str(logs), **environment}
    process = subprocess.Popen([sys.executable, "-I", "-S", BACKEND], env=variables, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: is_open(port), 5, "the backend listens")
        yield port, process
    finally:
        process.kill()
        process.wait(5)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def send_until(client: CheckingClient, enough: Callable[[], bool]) -> None:
    with client.running():
        wait_for(enough, 15, "enough was sent")


def test_all_is_well_where_nothing_goes_wrong(tmp_path: Path) -> None:
    with a_backend(tmp_path, VERSION="v7") as (port, _):
        client = CheckingClient(port=port, host="x", slow_s=0.2, logs=tmp_path / "logs")
        send_until(client, lambda: client.count > 60)
        report = client.report()
    report.check()
    assert set(report.versions()) == {"v7"}
    assert not report.unheard
    assert {one.method for one in report.sent} == {"GET", "POST"}
    assert {one.fresh for one in report.sent} == {True, False}


def test_a_reset_request_counts_as_lost_and_the_log_says_that_it_arrived(tmp_path: Path) -> None:
    with a_backend(tmp_path) as (port, _), Relay(target=("127.0.0.1", port)) as relay:
        assert isinstance(relay.address, tuple)
        relay.lose_reply(rb"^POST /echo")
        client = CheckingClient(port=relay.address[1], host="x", slow=0, logs=tmp_path / "logs")
        send_until(client, lambda: client.count > 40)
        report = client.report()
    (lost,) = report.lost
    assert lost.method == "POST"
    assert report.taken[lost.id] == 1
    with pytest.raises(AssertionError, match="1 lost"):
        report.check()


def test_an_error_answer_counts_as_lost(tmp_path: Path) -> None:
    with a_backend(tmp_path, ANSWER_STATUS="500") as (port, _):
        client = CheckingClient(port=port, host="x", slow=0)
        send_until(client, lambda: client.count > 10)
    assert len(client.report().lost) == client.count


def test_old_answers_after_a_moment_are_found(tmp_path: Path) -> None:
    with a_backend(tmp_path, VERSION="v1") as (port, _):
        client = CheckingClient(port=port, host="x", slow=0)
        moment = time.time()
        send_until(client, lambda: client.count > 10)
    report = client.report()
    assert len(report.old_after(moment, "v1")) == len(report.sent)
    assert not report.old_after(moment, "v2")
    assert not report.old_after(time.time(), "v1")


def test_a_stalled_relay_holds_and_then_delivers(tmp_path: Path) -> None:
    with a_backend(tmp_path) as (port, _), Relay(target=("127.0.0.1", port)) as relay:
        assert isinstance(relay.address, tuple)
        relay.stall()
        client = CheckingClient(port=relay.address[1], host="x", kept=1, fresh=0, slow=0)
        with client.running():
            wait_for(lambda: relay.accepted == 1, 5, "the client connects")
            assert client.counts()[1] == 0
            relay.resume()
            wait_for(lambda: client.counts()[1] > 3, 5, "answers come")
    assert not client.report().lost


def test_a_relay_speaks_unix_sockets_and_refuses_on_demand(tmp_path: Path) -> None:
    with a_backend(tmp_path) as (port, _), Relay(target=("127.0.0.1", port), listen=tmp_path / "r.sock") as relay:
        with socket.socket(socket.AF_UNIX) as side:
            side.settimeout(5)
            side.connect(str(relay.address))
            side.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert side.recv(100).startswith(b"HTTP/1.1 200")
            relay.reset_all()
            wait_for(lambda: ended(side), 5, "the connection ends")
        relay.refuse = True
        with socket.socket(socket.AF_UNIX) as side:
            side.settimeout(5)
            side.connect(str(relay.address))
            assert ended(side)


def ended(side: socket.socket) -> bool:
    try:
        while side.recv(4096):
            pass
    except ConnectionResetError:
        return True
    return True


def test_the_backend_finishes_open_requests_when_told_to_stop(tmp_path: Path) -> None:
    with a_backend(tmp_path) as (port, process), socket.create_connection(("127.0.0.1", port), 5) as side:
        side.sendall(b"GET /slow?s=0.5 HTTP/1.1\r\nX-Check-Id: a\r\n\r\n")
        wait_for(lambda: '"id": "a"' in read_all(tmp_path / "logs"), 5, "the request is taken")
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: not is_open(port), 5, "the backend stops to listen")
        assert b" 200 " in side.recv(1000)
        assert process.wait(5) == 0


def test_the_backend_that_ignores_term_goes_on(tmp_path: Path) -> None:
    with a_backend(tmp_path, IGNORE_TERM="1") as (port, process):
        process.send_signal(signal.SIGTERM)
        assert is_open(port)
        assert process.poll() is None


def read_all(folder: Path) -> str:
    return "".join(file.read_text() for file in folder.glob("*.log"))


@pytest.mark.parametrize(
    ("environment", "status"),
    [({"NEVER_READY": "no database"}, b"503"), ({"ANSWER_STATUS": "500"}, b"500"), ({"READY_DELAY_S": "60"}, b"503")],
)
def test_the_backend_is_not_ready_on_demand(tmp_path: Path, environment: dict[str, str], status: bytes) -> None:
    with a_backend(tmp_path, **environment) as (port, _), socket.create_connection(("127.0.0.1", port), 5) as side:
        side.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert side.recv(1000).split()[1] == status


def test_the_backend_crashes_on_demand() -> None:
    done = subprocess.run(
        [sys.executable, BACKEND], env={"CRASH_AT_START": "no config"}, capture_output=True, timeout=10, check=False
    )
    assert (done.returncode, done.stderr) == (1, b"no config\n")
