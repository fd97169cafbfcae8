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
