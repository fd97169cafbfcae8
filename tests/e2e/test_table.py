"""The way of the routing table to the workers: refused, shut, redirected and matched again, never without a policy."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.e2e.test_certificates import save
from tests.parts.frozen import engine_relay
from tests.parts.service import Service
from tests.parts.stage import Stage
from tests.parts.wait import free_port, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

SHA = "ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="
AUTH = ("ann", "password")


class Asking(threading.Thread):
    """Asks for one host again and again, each time on a connection of its own; `seen` has every status."""

    def __init__(self, service: Service, host: str) -> None:
        super().__init__(daemon=True)
        self.service, self.host = service, host
        self.enough = threading.Event()
        self.seen: list[int] = []

    def run(self) -> None:
        while not self.enough.is_set():
            try:
                self.seen.append(self.service.get(host=self.host).status_code)
            except httpx.TransportError:
                self.enough.wait(0.02)  # the service is being started


@contextmanager
def asking(service: Service, host: str) -> Iterator[Asking]:
    thread = Asking(service, host)
    thread.start()
    try:
        yield thread
    finally:
        thread.enough.set()
        thread.join(30)


def harm_snapshot(service: Service, app: str, **policy: Any) -> None:
    place = service.state / "proxy" / "table.json"
    table = json.loads(place.read_text())
    table["apps"][app].setdefault("policy", {}).update(policy)
    place.write_text(json.dumps(table))


def test_a_spec_that_no_worker_could_serve_is_refused_with_its_line_and_nobody_notices(
    house: Service, stage: Callable[..., Stage]
) -> None:
    bad, good = stage("bad", replicas=1), stage("good", replicas=1)
    bad.deploy()
    good.deploy()
    proxy = {"basic_auth": [SHA], "redirects": [{"from": "http://[shop/old", "to": "/new"}]}
    with good.load(), bad.load():
        place = bad.write(proxy=proxy)
        line = 1 + next(n for n, text in enumerate(place.read_text().splitlines()) if "[shop/old" in text)
        told = house.oton("validate", str(place))
        assert told.returncode == 2
        assert f"{place.name}:{line}: proxy.redirects[0].from: found" in told.stdout + told.stderr
        row = bad.wait(lambda row: "invalid" in row["conditions"])
        assert f"{place.name}:{line}: proxy.redirects[0].from" in row["message"]
        good.deploy("v2")
    assert bad.version() == "v1"


@pytest.mark.core
def test_an_app_that_workers_cannot_serve_is_503_alone_and_status_says_so(
    services: Callable[..., Service], tmp_path: Path
) -> None:
    with engine_relay(tmp_path / "engine.sock") as relay:
        service = services(settings={"DOCKER_HOST": relay.url})
        shut = Stage(service, "shut", replicas=1, proxy={"basic_auth": [SHA]})
        other = Stage(service, "other", replicas=1)
        assert shut.apply().returncode == 0
        assert other.apply().returncode == 0
        service.stop()
        harm_snapshot(service, "shut", allow=["nowhere"])
        relay.stall()  # else the next pass would publish it anew, and well
        with asking(service, shut.host) as strangers:
            service.start(wait=False)
            wait_for(lambda: "answers 503 on" in service.oton("status", "shut").stdout, 60, "status says so")
            assert other.version() == "v1"
            assert service.get(host=shut.host, auth=AUTH).status_code == 503
            assert "the proxy cannot serve it and answers 503: proxy.allow[0]" in service.oton("events", "shut").stdout
            relay.resume()
            wait_for(lambda: service.get(host=shut.host, auth=AUTH).status_code == 200, 40, "it is served again")
            wait_for(lambda: 401 in strangers.seen, 10, "strangers are asked for a password")
        assert set(strangers.seen) == {503, 401}
        assert "503" not in shut.row()["message"]


@pytest.mark.core
def test_plain_requests_are_sent_to_https_through_sighup_crash_and_restart(
    services: Callable[..., Service], tmp_path: Path
) -> None:
    service = services(settings={"TLS_PORT": str(free_port()), "OTON_WORKERS": "2"})
    stage = Stage(service, "secure", replicas=1)
    assert stage.apply().returncode == 0
    cert, key = save(tmp_path, trustme.CA(), stage.host, "one")
    assert service.oton("cert", "add", stage.host, "--cert", cert, "--key", key).returncode == 0
    wait_for(lambda: service.get(host=stage.host).status_code == 308, 10, "plain requests are sent to HTTPS")
    with asking(service, stage.host) as strangers:
        for harm in (replace_workers, crash_worker, crash_controller, restart):
            harm(service)
            count = len(strangers.seen)
            wait_for(lambda after=count: len(strangers.seen) > after + 20, 20, "requests are answered")
            assert set(strangers.seen) == {308}, harm.__name__


def replace_workers(service: Service) -> None:
    before = set(service.pids_of("oton-worker"))
    assert service.process is not None
    service.process.send_signal(signal.SIGHUP)
    wait_for(lambda: not before & set(service.pids_of("oton-worker")), 30, "all workers are new")


def crash_worker(service: Service) -> None:
    before = service.pids_of("oton-worker")
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: len(set(service.pids_of("oton-worker")) - set(before)) == 1, 30, "a new worker is there")
    wait_for(service.is_ready, 20, "the service is ready")


def crash_controller(service: Service) -> None:
    service.wait_next("_controller", service.signal_child("_controller", signal.SIGKILL))


def restart(service: Service) -> None:
    service.stop()
    service.start()


@pytest.mark.core
def test_who_waited_for_a_release_that_brings_a_password_does_not_get_in_without_one(
    house: Service, stage: Callable[..., Stage]
) -> None:
    shop = stage("swapped", replicas=1, strategy={"type": "recreate", "hold": "30s"})
    shop.deploy("v1")
    answers: list[tuple[str, float]] = []
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            answer = house.get(host=shop.host)
            who = answer.headers.get("x-version", str(answer.status_code))
            answers.append((who, answer.elapsed.total_seconds()))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        shop.put("v2", manners={"READY_DELAY_S": "2"}, proxy={"basic_auth": [SHA]})
        wait_for(lambda: answers and answers[-1][0] == "401", 40, "a password is asked for")
        shop.wait(lambda row: row["phase"] == "live" and row["release"] == 2)
        assert house.get(host=shop.host, auth=AUTH).headers["x-version"] == "v2"
    finally:
        enough.set()
        thread.join(40)
    assert {who for who, _ in answers} == {"v1", "401"}
    assert max(seconds for _, seconds in answers) > 1, "at least one was held"
