"""Settings: what the environment may say, and what is said back when it says something else."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from controller import settings as room
from controller.errors import Refused
from controller.knobs import ProxyUser, parse_duration_s
from controller.settings import Settings, configure_logging, list_knobs, load_instance, load_settings


@pytest.fixture(autouse=True)
def bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory and none of our variables."""
    for knob in list_knobs():
        monkeypatch.delenv(knob.variable, raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_defaults_are_those_of_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.os, "geteuid", lambda: 0)
    found = load_settings()
    assert (found.port, found.tls_port, found.bind) == (3000, None, ())
    assert found.db_path == tmp_path / "database.db"
    assert (found.desired, found.state) == (tmp_path / "desired", tmp_path / ".oton")
    assert found.socket == Path("/run/oton/oton.sock")
    assert found.api == ("127.0.0.1", 3080)
    assert (found.log_level, found.upstream, found.network, found.subnet) == ("info", "auto", "oton", None)
    assert (found.keep_images, found.stop_timeout_s, found.access_log) == (5, 30.0, "stdout")
    assert (found.allow_binds, found.allow_caps, found.allow_networks, found.allow_targets) == ((), (), (), ())
    assert (found.git_url, found.docker_host, found.api_host, found.trusted_proxies) == (None, None, None, ())


def test_every_variable_of_the_contract_is_a_knob_with_a_flag_and_a_meaning() -> None:
    knobs = {knob.variable: knob for knob in list_knobs()}
    assert set(knobs) >= {
        "PORT", "TLS_PORT", "OTON_BIND", "DB_PATH", "LOG_LEVEL", "OTON_DESIRED", "OTON_STATE", "OTON_SOCKET",
        "OTON_API", "OTON_API_HOST", "OTON_WORKERS", "OTON_PROXY_USER", "OTON_UPSTREAM", "OTON_NETWORK",
        "OTON_SUBNET", "OTON_ALLOW_BINDS", "OTON_ALLOW_CAPS", "OTON_ALLOW_NETWORKS", "OTON_ALLOW_TARGETS",
        "OTON_TRUSTED_PROXIES", "OTON_LOG_FORMAT", "OTON_ACCESS_LOG", "OTON_KEEP_IMAGES", "OTON_STOP_TIMEOUT",
        "OTON_GIT_URL", "OTON_GIT_BRANCH", "OTON_GIT_PATH", "OTON_GIT_INTERVAL", "OTON_GIT_KEY", "DOCKER_HOST",
    }  # fmt: skip
    assert knobs["OTON_STOP_TIMEOUT"].flag == "--stop-timeout"
    assert knobs["PORT"].flag == "--port"
    assert all(knob.meaning for knob in knobs.values())
    assert len({knob.flag for knob in knobs.values()}) == len(knobs)


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("PORT", "8080", "port", 8080),
        ("TLS_PORT", "443", "tls_port", 443),
        ("TLS_PORT", "", "tls_port", None),
        ("OTON_BIND", "127.0.0.1, ::1", "bind", ("127.0.0.1", "::1")),
        ("LOG_LEVEL", "DEBUG", "log_level", "debug"),
        ("OTON_API", "off", "api", None),
        ("OTON_API", "[::1]:99", "api", ("::1", 99)),
        ("OTON_API", "localhost:99", "api", ("127.0.0.1", 99)),
        ("OTON_API", "API.example.com:443", "api", ("api.example.com", 443)),
        ("OTON_API", "203.0.113.7:443", "api", ("203.0.113.7", 443)),
        ("OTON_API", "[FD00:0::5]:443", "api", ("fd00::5", 443)),
        ("OTON_STOP_TIMEOUT", "1m30s", "stop_timeout_s", 90.0),
        ("OTON_STOP_TIMEOUT", "500ms", "stop_timeout_s", 0.5),
        ("OTON_ALLOW_CAPS", "cap_net_admin,SYS_TIME", "allow_caps", ("NET_ADMIN", "SYS_TIME")),
        ("OTON_ALLOW_BINDS", "/srv/../data,/x/", "allow_binds", ("/data", "/x")),
        ("OTON_ALLOW_TARGETS", "10.0.0.0/8,db.local:5432", "allow_targets", ("10.0.0.0/8", "db.local:5432")),
        ("OTON_TRUSTED_PROXIES", "10.1.2.3/8,::1", "trusted_proxies", ("10.0.0.0/8", "::1/128")),
        ("OTON_SUBNET", "10.88.0.0/16", "subnet", "10.88.0.0/16"),
        ("OTON_GIT_URL", "git@host:team/repo.git", "git_url", "git@host:team/repo.git"),
        ("OTON_ACCESS_LOG_QUERY", "true", "access_log_query", True),
        ("DOCKER_HOST", "unix:///x.sock", "docker_host", "unix:///x.sock"),
    ],
)
def test_a_value_is_read(variable: str, text: str, field: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(load_settings(), field) == value


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("PORT", "70000", "a port from 1 to 65535"),
        ("PORT", "eighty", "a port from 1 to 65535"),
        ("PORT", "٨٠", "a port from 1 to 65535"),
        ("OTON_BIND", "everywhere", "IP addresses"),
        ("LOG_LEVEL", "loud", "debug, info, warning or error"),
        ("OTON_API", "0.0.0.0:3080", "loopback"),
        ("OTON_API", "127.0.0.1", "loopback"),
        ("OTON_API", "[::]:3080", "a host name"),
        ("OTON_API", "[fe80::1%eth0]:3080", "a host name"),
        ("OTON_API", "a b.example.com:3080", "a host name"),
        ("OTON_API", "api.example.com:0", "a host name"),
        ("OTON_WORKERS", "0", "from 1 to 256"),
        ("OTON_WORKERS", "-1", "from 1 to 256"),
        ("OTON_PROXY_USER", "root", "other than root"),
        ("OTON_PROXY_USER", "no-such-user-here", "other than root"),
        ("OTON_UPSTREAM", "magic", "auto, address or port"),
        ("OTON_NETWORK", "a b", "network name"),
        ("OTON_SUBNET", "10.0.0.1/16", "an IPv4 range"),
        ("OTON_SUBNET", "10.0.0.0/30", "an IPv4 range"),
        ("OTON_TRUSTED_PROXIES", "proxy.example", "address ranges"),
        ("OTON_STOP_TIMEOUT", "30", "a duration"),
        ("OTON_STOP_TIMEOUT", "2h", "a duration"),
        ("OTON_KEEP_IMAGES", "0", "from 1 to 50"),
        ("OTON_GIT_URL", "--upload-pack=x", "address"),
        ("OTON_GIT_PATH", "../x", "relative path"),
        ("OTON_LOG_FORMAT", "xml", "console or json"),
        ("OTON_ACCESS_LOG_QUERY", "maybe", "true or false"),
        ("DOCKER_HOST", "localhost", "unix://"),
    ],
)
def test_a_bad_value_is_one_line_with_variable_value_and_what_is_allowed(
    variable: str, text: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(Refused) as caught:
        load_settings()
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f'{variable}: found "{text}", allowed: ')
    assert allowed in line


def test_two_bad_values_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("OTON_WORKERS", "x")
    with pytest.raises(Refused) as caught:
        load_settings()
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["PORT", "OTON_WORKERS"]


def test_a_long_value_is_quoted_only_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9" * 5000)
    with pytest.raises(Refused) as caught:
        load_settings()
    assert len(str(caught.value)) < 200


def test_dot_env_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("PORT=4000\nOTON_WORKERS=3\nOTHER_PROGRAM=1\nport=5000\n")
    monkeypatch.setenv("PORT", "4001")
    found = load_settings()
    assert (found.port, found.workers) == (4001, 3)


def test_a_dot_env_that_is_not_text_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=\xff\xfe\n")
    with pytest.raises(Refused, match=r"^\.env: cannot be read"):
        load_settings()


def test_overrides_win_and_name_the_variable_when_bad(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PORT", "4000")
    found = load_settings({"port": 5000, "stop_timeout_s": 2.5, "state": "here", "workers": None})
    assert (found.port, found.stop_timeout_s, found.state) == (5000, 2.5, tmp_path / "here")
    with pytest.raises(Refused, match=r'^PORT: found "0"'):
        load_settings({"port": 0})
    with pytest.raises(Refused, match=r"^colour: unknown setting"):
        load_settings({"colour": "red"})


def test_lower_case_variables_of_other_programs_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("port", "5000")
    monkeypatch.setenv("state", "/nowhere")
    assert load_settings().port == 3000


def test_the_socket_is_in_the_runtime_directory_for_a_plain_user_that_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert load_settings().socket == Path("/run/user/1000/oton/oton.sock")


def test_the_socket_is_in_the_state_directory_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room.os, "geteuid", lambda: 1000)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert load_settings({"state": tmp_path / "s"}).socket == tmp_path / "s" / "oton.sock"


def test_a_path_too_long_for_a_socket_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTON_SOCKET", "/" + "x" * 120)
    with pytest.raises(Refused) as caught:
        load_settings()
    assert str(caught.value).startswith("OTON_SOCKET: found ")
    assert f"(121 bytes), allowed: a path of at most {room.SOCKET_PATH_BYTES} bytes" in str(caught.value)


def test_a_state_directory_too_long_for_the_sockets_below_it_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTON_STATE", "/" + "y" * 100)
    with pytest.raises(Refused, match=r"^OTON_STATE: found .* bytes\), allowed: a path of at most"):
        load_settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1


def test_workers_default_to_one_per_usable_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.os, "sched_getaffinity", lambda _pid: {0, 1, 5}, raising=False)
    assert load_settings().workers == 3


def test_root_gets_an_unused_proxy_user_that_stays_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room.os, "geteuid", lambda: 0)
    first, again = load_settings().proxy_user, load_settings().proxy_user
    other = load_settings({"state": tmp_path / "other"}).proxy_user
    assert first == again != other
    assert isinstance(first, ProxyUser)
    assert first.uid >= 61184


def test_a_taken_uid_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.os, "geteuid", lambda: 0)
    first = load_settings().proxy_user
    assert first is not None
    known = room._is_known
    monkeypatch.setattr(room, "_is_known", lambda uid: uid == first.uid or known(uid))
    second = load_settings().proxy_user
    assert second is not None
    assert second.uid != first.uid


def test_a_plain_user_has_no_proxy_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.os, "geteuid", lambda: 1000)
    assert load_settings().proxy_user is None


@pytest.mark.parametrize("text", ["10", "ms", "s", "-1s", "1 s", "1x", "1e3s", "1s2", "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text) + "$"):
        parse_duration_s(text)


def test_an_instance_is_made_once_and_kept(tmp_path: Path) -> None:
    first = load_instance(tmp_path / "a")
    assert load_instance(tmp_path / "a") == first
    assert load_instance(tmp_path / "b") != first
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["instance"]


def test_callers_at_once_agree_on_one_instance(tmp_path: Path) -> None:
    gate = threading.Barrier(8)
    found: list[str] = []

    def call() -> None:
        gate.wait(5)
        found.append(load_instance(tmp_path / "s"))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_spoilt_instance_file_is_refused_not_replaced(tmp_path: Path) -> None:
    load_instance(tmp_path / "s")
    (tmp_path / "s" / "instance").write_text("something else\n")
    with pytest.raises(Refused, match="12 hexadecimal digits"):
        load_instance(tmp_path / "s")
    assert (tmp_path / "s" / "instance").read_text() == "something else\n"


def test_a_state_directory_that_cannot_be_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match=r"^OTON_STATE: found "):
        load_instance(tmp_path / "file")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(Refused, match="others may write to"):
        load_instance(shared)
    assert list(shared.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_state_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    with pytest.raises(Refused, match="of uid 12345"):
        load_instance(theirs)


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Logging that a test may configure; the test run's own comes back afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("own_logging")
def test_json_logs_are_one_object_a_line_for_us_and_for_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(load_settings({"log_format": "json"}))
    structlog.get_logger("loop").info("started", app="shop")
    structlog.get_logger("loop").debug("not shown")
    logging.getLogger("uvicorn").warning("from %s", "a library")
    ours, theirs = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (ours["message"], ours["app"], ours["logger"], ours["level"]) == ("started", "shop", "loop", "info")
    assert theirs["message"] == "from a library"
    assert ours["timestamp"].endswith("Z")


@pytest.mark.usefixtures("own_logging")
def test_a_traceback_stays_in_the_object(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(load_settings({"log_format": "json"}))
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        structlog.get_logger("loop").exception("broke")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError" in json.loads(line)["exception"]


@pytest.mark.usefixtures("own_logging")
def test_console_logs_have_no_colour_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(load_settings({"log_format": "console"}))
    structlog.get_logger("loop").info("started", app="shop")
    shown = capsys.readouterr().err
    assert "started" in shown
    assert "\x1b" not in shown


def test_reading_settings_loads_nothing_heavy() -> None:
    heavy = "{'docker', 'sqlalchemy', 'fastapi', 'mitmproxy', 'structlog', 'typer'}"
    code = f"import sys, controller.settings; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(room.__file__).parents[1],
        timeout=30,
    )
    assert done.stdout.strip() == "[]"


def test_the_type_of_settings_is_frozen() -> None:
    assert Settings.model_config["frozen"]


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_shows_no_values_of_variables(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(load_settings({"log_format": form}))
    password = "hun" + "ter2"
    try:
        raise ZeroDivisionError(len(password))
    except ZeroDivisionError:
        structlog.get_logger("loop").exception("broke")
    shown = capsys.readouterr().err
    assert "ZeroDivisionError" in shown
    assert password not in shown


def test_the_api_is_on_a_port_of_its_own_or_under_a_host_of_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTON_API_HOST", "api.example.com")
    assert load_settings().api_host == "api.example.com"
    monkeypatch.setenv("OTON_API", "api.example.com:3080")
    with pytest.raises(Refused, match=r'OTON_API: found "api.example.com:3080" beside OTON_API_HOST'):
        load_settings()
