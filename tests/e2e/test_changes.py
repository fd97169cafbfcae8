"""F05 and the strategy that holds requests: what traffic sees while one spec follows another."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.parts.client import CheckingClient, read_logs
from tests.parts.service import Service, a_spec
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

Images = Callable[..., str]


def swap(service: Service, client: CheckingClient, spec: str, version: str) -> None:
    """Move the shop to *version* while *client* sends."""
    before = client.count
    service.write_spec(spec)
    image = f":{version}"
    service.wait_app("shop", lambda row: row["image"].endswith(image) and row["sync"] == "synced", 60)
    wait_for(lambda: client.count > before + 20, 10, "traffic goes on")


def test_recreate_has_requests_wait_instead_of_failing(service: Service, backend: Images) -> None:
    spec = {"replicas": 1, "logs": service.logs, "strategy": {"type": "recreate", "hold": "30s"}, "stop_grace": "2s"}
    service.write_spec(a_spec(image=backend("v1"), **spec))
    service.wait_app("shop", lambda row: row["sync"] == "synced")
    client = service.client(slow_s=1)
    with client.running():
        wait_for(lambda: client.count > 50, 10, "traffic flows")
        swap(service, client, a_spec(image=backend("v2"), **spec), "v2")
    report = client.report()
    report.check()
    started = [line for line in read_logs(service.logs) if line["event"] == "listening"]
    stopped = [line for line in read_logs(service.logs) if line["event"] == "stopped"]
    assert [line["version"] for line in started] == ["v1", "v2"]
    assert float(str(stopped[0]["at"])) < float(str(started[1]["at"])), "both ran at once"


def test_the_newest_of_ten_specs_is_what_serves_in_the_end(service: Service, backend: Images) -> None:
    service.write_spec(a_spec(image=backend("v1"), logs=service.logs))
    service.wait_app("shop", lambda row: row["sync"] == "synced")
    backend("v2")
    client = service.client(slow_s=1)
    with client.running():
        wait_for(lambda: client.count > 50, 10, "traffic flows")
        for turn in range(10):
            image = backend("v2" if turn % 2 else "v1")
            service.write_spec(a_spec(image=image, logs=service.logs, environment={"TURN": str(turn)}))
            time.sleep(0.2)  # the fault itself: ten within two seconds
        service.wait_app("shop", lambda row: row["sync"] == "synced" and row["image"].endswith(":v2"), 60)
        wait_for(lambda: len(service.containers("shop")) == 2, 20, "nothing is left over")
    client.report().check()
    for row in service.containers("shop"):
        assert row["State"] == "running"
