"""F01: release after release in steady traffic; every request is answered once, and by nobody old after the switch."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.parts.client import CheckingClient
from tests.parts.service import Service, a_spec
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

Images = Callable[..., str]
SWAPS = 5


def swap(service: Service, client: CheckingClient, spec: str, version: str) -> float:
    """Move the shop to *version* while *client* sends; return the moment at which the rollout was over."""
    before = client.count
    service.write_spec(spec)
    image = f":{version}"
    service.wait_app("shop", lambda row: row["image"].endswith(image) and row["sync"] == "synced", 60)
    moment = time.time()
    wait_for(lambda: client.count > before + 20, 10, "traffic goes on")
    return moment


@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param({"type": "rolling"}, id="rolling"),
        pytest.param({"type": "blue_green", "keep_old": "0s"}, id="blue_green"),
    ],
)
def test_five_swaps_in_a_row_lose_nothing(service: Service, backend: Images, strategy: dict[str, str]) -> None:
    def spec(version: str) -> str:
        return a_spec(image=backend(version), logs=service.logs, strategy=strategy)

    service.write_spec(spec("v1"))
    service.wait_app("shop", lambda row: row["sync"] == "synced" and row["health"] == "healthy")
    client = service.client(slow_s=5)
    moments: list[tuple[float, str]] = []
    with client.running():
        wait_for(lambda: client.count > 50, 10, "traffic flows")
        for turn in range(SWAPS):
            new = "v2" if turn % 2 == 0 else "v1"
            moments.append((swap(service, client, spec(new), new), "v1" if new == "v2" else "v2"))
    report = client.report()
    report.check()
    assert not report.unheard
    ends = [*(moment for moment, _ in moments[1:]), time.time()]
    for (moment, old), end in zip(moments, ends, strict=True):
        late = [one for one in report.old_after(moment, old) if one.sent < min(end, moment + 0.2)]
        assert not late, f"{old} answered after it was replaced"
    assert [row["outcome"] for row in service.releases("shop")] == ["live"] + ["superseded"] * SWAPS


def test_a_switch_has_one_moment_after_which_only_green_answers(service: Service, backend: Images) -> None:
    service.write_spec(a_spec(image=backend("v1"), logs=service.logs, strategy={"type": "blue_green"}))
    service.wait_app("shop", lambda row: row["sync"] == "synced")
    client = service.client(slow=0, pause_s=0.005)
    with client.running():
        wait_for(lambda: client.count > 100, 10, "traffic flows")
        swap(
            service,
            client,
            a_spec(image=backend("v2"), logs=service.logs, strategy={"type": "blue_green", "keep_old": "1s"}),
            "v2",
        )
    report = client.report()
    report.check()
    first_green = min(one.answered for one in report.sent if one.version == "v2" and one.answered)
    late = report.old_after(first_green + 0.1, "v1")  # each worker takes the table a moment apart
    assert not late


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
    hosts = {str(line["host"]) for line in backend_lines(service) if line["event"] == "listening"}
    assert len(hosts) == 2


def backend_lines(service: Service) -> list[dict[str, object]]:
    from tests.parts.client import read_logs

    return read_logs(service.logs)


def test_the_newest_of_ten_specs_is_what_serves_in_the_end(service: Service, backend: Images) -> None:
    """F05: changes arrive faster than they can be rolled out."""
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
