"""What arrives in the middle of a rollout, or makes it fail there: who serves, what the history says, what is asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.parts.journal import Journal
from tests.parts.service import Service
from tests.parts.stage import Stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

MakeStage = Callable[..., Stage]


def outcomes(shop: Stage) -> dict[int, str]:
    return {row["release"]: row["outcome"] for row in sorted(shop.releases(), key=lambda row: row["release"])}


def test_a_newer_spec_in_mid_recreate_keeps_requests_waiting_and_never_runs_two_at_once(
    house: Service, stage: MakeStage
) -> None:
    shop = stage("writer", replicas=1, stop_grace="1s", strategy={"type": "recreate", "hold": "30s"})
    shop.deploy("v1")
    with Journal(house) as journal, shop.load() as client:
        shop.put("v2", environment={"NEVER_READY": "still reading its volume", "IGNORE_TERM": "1"})
        shop.wait(lambda row: row["target"] == 2 and row["phase"] == "waiting" and len(shop.running()) == 1)
        journal.wait_action(shop.name, "start")
        shop.put("v3")
        shop.wait_live("v3")
    assert journal.overlaps(shop.name) == 0
    assert set(client.report().versions()) == {"v1", "v3"}
    assert outcomes(shop) == {1: "superseded", 2: "superseded", 3: "live"}


def test_a_readiness_check_that_cannot_pass_is_a_failed_release_and_takes_nobody_down(
    house: Service, stage: MakeStage
) -> None:
    shop = stage("probe", replicas=2)
    shop.deploy("v1")
    before = shop.running()
    with Journal(house) as journal, shop.load():
        failed = shop.apply("v1", health={"path": "/healthz", "status": 204}, deadline="3s")
        assert failed.returncode == 3, failed.stderr
        assert "did not pass the new readiness check within 3 s: GET /healthz: 200" in failed.stderr, failed.stderr
        row = shop.wait(lambda row: row["replicas"] == {"wanted": 2, "ready": 2, "routed": 2})
        assert (row["release"], row["sync"], row["health"]) == (1, "failed", "healthy")
        assert shop.apply("v1", health={"path": "/hello"}).returncode == 0
        shop.wait_tidy()
    journal.check_always_routed(shop.name, at_least=2)
    assert shop.running() == before, "no container was touched"
    assert outcomes(shop) == {1: "superseded", 2: "failed", 3: "live"}
