"""F02, F03: a release that is no good is refused with its reason, and what served before serves on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.parts.service import Service, a_spec
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

Images = Callable[..., str]

BAD: list[Any] = [
    pytest.param({"NEVER_READY": "no database"}, {}, ["no database", "GET /healthz"], id="never ready"),
    pytest.param({"CRASH_AT_START": "no config file"}, {}, ["no config file"], id="crashes at start"),
    pytest.param({"ANSWER_STATUS": "500"}, {}, ["500"], id="answers 500"),
    pytest.param({"PORT": "9999"}, {}, ["refused"], id="listens on the wrong port"),
    pytest.param({}, {"image": "oton-test-backend:none-such"}, ["none-such"], id="image missing"),
    pytest.param(
        {},
        {"before": {"command": ["sh", "-c", "echo table is locked >&2; exit 7"], "timeout": "5s"}},
        ["table is locked", "7"],
        id="before fails",
    ),
]


@pytest.mark.parametrize(("environment", "fields", "words"), BAD)
def test_a_bad_release_is_refused_and_the_old_one_serves_on(
    service: Service, backend: Images, environment: dict[str, str], fields: dict[str, Any], words: list[str]
) -> None:
    service.write_spec(a_spec(image=backend("v1"), logs=service.logs, deadline="4s"))
    service.wait_app("shop", lambda row: row["sync"] == "synced")
    before = {row["Id"] for row in service.containers("shop")}
    bad = a_spec(
        **{"image": backend("v2"), "logs": service.logs, "environment": environment, "deadline": "4s", **fields}
    )
    (service.root / "bad.yaml").write_text(bad)
    client = service.client(slow_s=1)
    with client.running():
        wait_for(lambda: client.count > 20, 10, "traffic flows")
        done = service.oton("apply", "bad.yaml")
    assert done.returncode == 3, done.stdout + done.stderr
    shown = done.stdout + done.stderr
    assert [word for word in words if word not in shown] == [], shown
    report = client.report()
    report.check()
    assert set(report.versions()) == {"v1"}
    wait_for(lambda: {row["Id"] for row in service.containers("shop")} == before, 15, "nothing is left behind")
    row = service.app("shop")
    assert (row["sync"], row["health"], row["release"]) == ("failed", "healthy", 1)
    assert service.releases("shop")[0]["outcome"] == "failed"


def test_a_release_that_crashes_while_it_bakes_is_undone_once(service: Service, backend: Images) -> None:
    """F03."""
    service.write_spec(a_spec(image=backend("v1"), logs=service.logs, bake="10s"))
    service.wait_app("shop", lambda row: row["sync"] == "synced", 60)
    (service.root / "bad.yaml").write_text(
        a_spec(image=backend("v2"), logs=service.logs, bake="10s", environment={"CRASH_AFTER_S": "4"})
    )
    done = service.oton("apply", "bad.yaml")
    assert done.returncode == 3, done.stdout + done.stderr
    service.wait_app("shop", lambda row: row["image"].endswith(":v1") and row["replicas"]["routed"] == 2, 60)
    wait_for(lambda: len(service.containers("shop")) == 2, 20, "nothing is left behind")
    outcomes = [(row["outcome"], row["reason"]) for row in service.releases("shop")]
    assert outcomes[0][0] == "live"
    assert outcomes[0][1].startswith("undo of 2")
    assert outcomes[1][0] == "rolled_back"
    assert len(outcomes) == 3
