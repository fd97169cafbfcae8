"""What is refused before anything has changed: one line, exit code 2."""

from __future__ import annotations

import configparser
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from controller.errors import Refused
from controller.lock import Lock
from controller.settings import load_settings
from controller.supervisor.programs import render_environment
from tests.processes.service import HERE, Service, until


@pytest.fixture
def service(tmp_path):
    made = Service(tmp_path, workers=1)
    yield made
    made.close()


def one_line(service) -> str:
    text = (service.folder / "err").read_text()
    assert len(text.strip().splitlines()) == 1, text
    assert "Traceback" not in text
    return text


def test_a_port_that_is_taken_is_named_with_its_variable(service):
    with socket.create_server(("127.0.0.1", service.port)):
        assert service.start(wait=False).wait() == 2
    assert f"PORT: port {service.port} is taken on 127.0.0.1" in one_line(service)


def test_the_tls_port_is_named_too(service):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service.environ["TLS_PORT"] = str(taken.getsockname()[1])
        assert service.start(wait=False).wait() == 2
    assert f"TLS_PORT: port {service.environ['TLS_PORT']} is taken" in one_line(service)


def test_an_address_that_is_not_ours_is_named(service):
    service.environ["OTON_BIND"] = "192.0.2.1"
    assert service.start(wait=False).wait() == 2
    assert "OTON_BIND: 192.0.2.1 is no address of this machine" in one_line(service)


def test_a_second_service_on_one_state_directory_is_refused_and_the_first_not_disturbed(service):
    service.state.mkdir(mode=0o700)
    lock = Lock.take(service.state)
    try:
        assert service.start(wait=False).wait() == 2
        assert f"{service.state} is in use by another service (process {os.getpid()})" in one_line(service)
        assert lock.still_ours()
    finally:
        lock.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another's")
def test_a_state_directory_of_another_user_is_refused(service):
    service.state.mkdir()
    os.chown(service.state, 12345, 12345)
    assert service.start(wait=False).wait() == 2
    assert "OTON_STATE" in one_line(service)


def test_a_controller_that_refuses_to_start_ends_the_service_with_its_one_line(service):
    service.environ |= {"STUB_FAILS": "/", "LOG_LEVEL": "info"}
    assert service.start(wait=False).wait() == 2
    assert one_line(service) == "oton: DB_PATH: the database is from a newer version\n"
    assert not service.workers()


def test_a_controller_that_refuses_late_ends_workers_too_that_wait_for_it(service, tmp_path):
    sign = tmp_path / "refuse"
    service.environ |= {"STUB_FAILS": str(sign), "LOG_LEVEL": "warning"}
    service.start(wait=False)
    until(service.workers, "a worker is there")
    sign.touch()
    assert service.wait() == 2
    assert one_line(service) == "oton: DB_PATH: the database is from a newer version\n"
    assert not service.workers()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give rights away")
def test_a_proxy_user_who_cannot_read_the_program_is_said_and_ends_the_service(service, tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys; sys.modules['uvloop'] = None\n")
    service.environ["PYTHONPATH"] += f":{hidden}"
    service.environ["LOG_LEVEL"] = "info"
    assert service.start(wait=False).wait() == 2
    assert one_line(service).startswith("oton: OTON_PROXY_USER: as uid")


def test_the_controller_reads_the_very_same_settings_from_its_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = {
        "PORT": "3100",
        "TLS_PORT": "3443",
        "OTON_BIND": "127.0.0.1,::1",
        "OTON_API": "[::1]:3080",
        "OTON_STOP_TIMEOUT": "1m30s",
        "OTON_TRUSTED_PROXIES": "10.0.0.0/8,fd00::/8",
        "OTON_ACCESS_LOG_QUERY": "true",
        "OTON_WORKERS": "3",
        "OTON_GIT_INTERVAL": "2m",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    for name in given:
        monkeypatch.delenv(name)
    for name, value in render_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
    for name, value in render_environment(load_settings({"api": None, "port": 4000})).items():
        monkeypatch.setenv(name, value)
    assert load_settings().port == 4000


def test_the_lock_is_lost_when_its_file_is_gone_or_replaced(tmp_path):
    lock = Lock.take(tmp_path)
    assert lock.still_ours()
    (tmp_path / "lock").rename(tmp_path / "aside")
    assert not lock.still_ours()
    (tmp_path / "lock").touch()
    assert not lock.still_ours()
    (tmp_path / "aside").replace(tmp_path / "lock")
    assert lock.still_ours()
    lock.release()


def test_a_lock_handed_down_outlives_the_one_who_took_it_and_leaves_nothing_to_clear(tmp_path):
    lock = Lock.take(tmp_path)
    code = "import os, sys; from pathlib import Path; from controller.lock import Lock; Lock.hold(Path(sys.argv[1]), os.environ); print('held', flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        pass_fds=(lock.fd,),
        env=os.environ | {"OTON_LOCK_FD": str(lock.fd)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout.readline() == b"held\n"
        lock.release()
        with pytest.raises(Refused, match="in use by another service"):
            Lock.take(tmp_path, patience_s=0)
        child.send_signal(signal.SIGKILL)
        child.wait(5)
    Lock.take(tmp_path).release()


def test_a_lock_that_was_replaced_meanwhile_is_not_adopted(tmp_path):
    lock = Lock.take(tmp_path)
    (tmp_path / "lock").unlink()
    with pytest.raises(Refused, match="was replaced"):
        Lock.adopt(tmp_path, lock.fd)
    lock.release()


def test_what_is_wrong_with_a_handed_down_socket_is_said(service):
    fake_systemd = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.dup2(int(sys.argv[1]), 3); os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    with Path("/dev/null").open() as nothing:
        service.environ["LISTEN_FDS"] = "1"
        command = (sys.executable, "-c", fake_systemd, str(nothing.fileno()), str(HERE / "serve.py"))
        service.start(wait=False, command=command, pass_fds=(nothing.fileno(),))
        assert service.wait() == 2
    assert "LISTEN_FDS: descriptor 3 is no socket" in one_line(service)


def test_the_unit_files_fit_what_the_service_does():
    folder = HERE.parents[1] / "examples" / "systemd"
    units = {}
    for name in ("oton.service", "oton.socket"):
        units[name] = configparser.ConfigParser(strict=False, interpolation=None)
        units[name].optionxform = str
        units[name].read(folder / name)
    service, sockets = units["oton.service"]["Service"], units["oton.socket"]["Socket"]
    assert service["Type"] == "notify"
    assert service["KillMode"] == "mixed", "workers must be told by the supervisor, in its order"
    assert service["RestartPreventExitStatus"] == "2"
    assert service["ExecStart"].endswith("/oton serve")
    assert "HUP" in service["ExecReload"]
    assert float(service["TimeoutStopSec"]) > load_settings().stop_timeout_s + 5
    assert sockets["ListenStream"] in service_ports(folder / "oton.service")


def service_ports(unit: Path) -> list[str]:
    words = [word for line in unit.read_text().splitlines() if line.startswith("Environment=") for word in line.split()]
    return [word.rpartition("=")[2] for word in words if "PORT=" in word]
