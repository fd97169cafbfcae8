"""Tokens of a whole service over TCP: what one brings back is judged, and what it opened ends with it."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.cli.wire import Wire
from tests.e2e.conftest import open_house
from tests.parts.images import ensure_backend_image
from tests.parts.service import Service, a_spec, engine
from tests.parts.wait import free_port, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.core, pytest.mark.timeout(180)]

END_S = 10.0
YAML = {"Content-Type": "application/yaml"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, int]]:
    port = free_port()
    with open_house(tmp_path_factory.mktemp("house"), {"OTON_API": f"127.0.0.1:{port}"}) as service:
        image = ensure_backend_image("v1")
        for fields in ({"cap_add": ["NET_ADMIN"]}, {}):
            spec = a_spec("shop", image, replicas=1, environment={"TRY": str(len(fields))}, **fields)
            assert service.api("PUT", "/v1/apps/shop/spec", content=spec, headers=YAML).status_code == 202
            number = 1 if fields else 2
            service.wait_app("shop", lambda row, number=number: row["release"] == number and row["sync"] == "synced")
        yield service, port


def make(service: Service, name: str, **fields: Any) -> str:
    answer = service.api("POST", "/v1/tokens", json={"name": name, "scope": "deploy", "apps": ["shop"], **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["secret"])


def client_of(port: int, secret: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20, trust_env=False)


def session(port: int, verb: str, secret: str, wish: dict[str, Any]) -> Wire:
    sock = socket.create_connection(("127.0.0.1", port), 20)
    wire = Wire(sock, f"127.0.0.1:{port}", f"/v1/apps/shop/{verb}", {"Authorization": f"Bearer {secret}"})
    wire.send(json.dumps(wish))
    return wire


def test_a_deploy_token_brings_back_nothing_that_an_administrator_took_away(served: tuple[Service, int]) -> None:
    service, port = served
    secret = make(service, "ci")
    before = service.containers("shop")
    with client_of(port, secret) as client:
        for body in ({"to": 1}, None):
            answer = client.post("/v1/apps/shop/rollback", json=body)
            assert (answer.status_code, answer.json()["fields"]) == (403, ["cap_add[0]"]), answer.text
        wire = session(port, "run", secret, {"command": ["true"], "release": 1})
        assert json.loads(wire.receive() or "")["exit"] == 125
        wire.close()
        assert [row["Id"] for row in service.containers("shop")] == [row["Id"] for row in before]
        assert [row["release"] for row in service.releases("shop")] == [2, 1]
        order = client.post("/v1/apps/shop/restart")
        assert order.status_code == 202, "what serves may be restarted"
    service.wait_app("shop", lambda row: row["release"] == 3 and row["sync"] == "synced")


@pytest.mark.parametrize("ttl_s", [None, 8.0], ids=["revoked", "expired"])
def test_what_a_token_opened_ends_with_it(served: tuple[Service, int], ttl_s: float | None) -> None:
    service, port = served
    name = f"guest-{ttl_s}"
    secret = make(service, name, **({"ttl_s": ttl_s} if ttl_s else {}))
    with ExitStack() as stack:
        client = stack.enter_context(client_of(port, secret))
        ends = []
        for path in ("/v1/events?app=shop", "/v1/apps/shop/logs?follow=true"):
            response = stack.enter_context(client.stream("GET", path, timeout=httpx.Timeout(20, read=60)))
            assert response.status_code == 200
            ends.append(read_to_the_end(response))
        wire = session(port, "exec", secret, {"command": ["sleep", "1000"]})
        assert not any(ended.is_set() for ended in ends)
        if ttl_s is None:
            assert service.api("DELETE", f"/v1/tokens/{name}").status_code == 200
        assert json.loads(wire.receive() or "") == {"exit": 125, "error": "this token is not valid, or no longer"}
        assert all(ended.wait(END_S) for ended in ends)
        assert client.get("/v1/apps").status_code == 401
        wire.close()
    assert service.api("GET", "/v1/apps").status_code == 200


def read_to_the_end(response: httpx.Response) -> threading.Event:
    """Read in a thread; the event is set when the stream has ended, however."""
    ended = threading.Event()

    def read() -> None:
        with suppress(httpx.HTTPError):
            for _ in response.iter_lines():
                pass
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    return ended


def test_silent_connections_leave_the_socket_the_command_line_and_the_healing(tmp_path: Path) -> None:
    port = free_port()
    with few_descriptors(1024), open_house(tmp_path, {"OTON_API": f"127.0.0.1:{port}"}) as service:
        spec = a_spec("shop", ensure_backend_image("v1"), replicas=1)
        service.api("PUT", "/v1/apps/shop/spec", content=spec, headers=YAML)
        service.wait_app("shop", lambda row: row["health"] == "healthy")
        with ExitStack() as stack:
            for _ in range(900):
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            (row,) = service.status("shop")
            assert row["health"] == "healthy"
            (first,) = service.containers("shop")
            with engine() as outside:
                outside.kill(first["Id"])
            wait_for(lambda: is_healed(service, first["Id"]), 40, "the killed replica is replaced")
            assert service.oton("doctor").returncode == 0


@contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    """Start what is started meanwhile with a low limit that it cannot raise."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.prlimit(0, resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    popen, limits = subprocess.Popen, (count, count)

    class Limited(popen):  # type: ignore[type-arg, misc, valid-type]
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, limits)

    subprocess.Popen = Limited  # type: ignore[misc]
    try:
        yield
    finally:
        subprocess.Popen = popen  # type: ignore[misc]
        resource.prlimit(0, resource.RLIMIT_NOFILE, (soft, hard))


def is_healed(service: Service, old: str) -> bool:
    rows = [row for row in service.containers("shop") if row["State"] == "running"]
    return bool(rows) and all(row["Id"] != old for row in rows) and service.app("shop")["health"] == "healthy"
