"""What arrives in the middle of a rollout, or makes it fail there: who serves, what the history says, what is asked."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.parts.images import ensure_backend_image, remove_images
from tests.parts.journal import Journal
from tests.parts.service import Service
from tests.parts.stage import Stage, is_at_rest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

MakeStage = Callable[..., Stage]
LOST = "oton-test-lost"
"""Images that are removed while releases still name them."""


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


@pytest.mark.core
@pytest.mark.slow
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


@pytest.mark.core
@pytest.mark.slow
def test_what_serves_is_live_in_the_history_whatever_failed_after_it_and_a_rollback_counts_from_it(
    house: Service, stage: MakeStage
) -> None:
    shop = stage("baking", replicas=1)
    shop.deploy("v1")
    with shop.load() as client:
        shop.put("v2", bake="5m")
        shop.wait(lambda row: row["release"] == 2 and row["phase"] == "baking")
        failed = shop.apply("v3", environment={"NEVER_READY": "no licence"}, deadline="3s")
        assert failed.returncode == 3, failed.stderr
        assert outcomes(shop) == {1: "superseded", 2: "live", 3: "failed"}
        shop.wait_live("v2")
        back = house.oton("rollback", shop.name)
        assert back.returncode == 0, back.stderr
        shop.wait_live("v1")
    assert set(client.report().versions()) == {"v1", "v2"}
    assert outcomes(shop) == {1: "superseded", 2: "rolled_back", 3: "failed", 4: "live"}


@pytest.mark.core
@pytest.mark.slow
def test_a_rollback_that_fails_and_one_in_mid_rollout_leave_what_serves_and_wait_for_a_person(
    house: Service, stage: MakeStage
) -> None:
    shop = stage("back", replicas=1)
    first = ensure_backend_image("v1", repository=LOST)
    shop.put(image=first)
    shop.wait(lambda row: is_at_rest(row) and row["release"] == 1)
    shop.deploy("v2")
    remove_images(LOST)
    stuck = {"environment": {"NEVER_READY": "no licence"}, "deadline": "10m"}
    with Journal(house) as journal, shop.load() as client:
        shop.put("v3", **stuck)
        shop.wait(lambda row: row["target"] == 3 and len(shop.running()) == 2)
        failed = house.oton("rollback", shop.name, "--to", "1")
        assert failed.returncode == 3, failed.stderr
        row = shop.wait_live("v2")
        assert (row["sync"], row["message"]) == ("failed", "release 3 was abandoned: rollback to 1")
        begun = len(journal.actions(shop.name, "create"))
        shop.try_order("retry")
        shop.wait(lambda row: row["target"] == 5 and len(shop.running()) == 2)
        assert len(journal.actions(shop.name, "create")) == begun + 1, "nothing was started but for the retry"
        back = house.oton("rollback", shop.name)
        assert back.returncode == 0, back.stderr
        assert "release 5 was undone; release 2 serves, pinned" in back.stdout + back.stderr
        shop.wait_live("v2")
    assert set(client.report().versions()) == {"v2"}
    expected = {1: "superseded", 2: "live", 3: "superseded", 4: "failed", 5: "rolled_back"}
    assert outcomes(shop) == expected


@pytest.mark.core
@pytest.mark.slow
def test_an_abort_while_it_drains_says_what_serves_once_it_serves(house: Service, stage: MakeStage) -> None:
    shop = stage("drains", replicas=1, strategy="recreate")
    shop.deploy("v1", bake="0s")
    first = shop.put("v2", bake="5m")
    shop.wait(lambda row: row["release"] == 2 and row["phase"] == "baking")
    with ThreadPoolExecutor(1) as person:
        applied = person.submit(shop.apply, "v2", bake="5m")
        shop.wait(lambda row: any(one["change"] > first and one["release"] == 2 for one in row["orders"]))
        assert house.oton("abort", shop.name).returncode == 0
        done = applied.result(60)
    assert done.returncode == 3, done.stderr
    assert "now: release 3 serves (oton-test-backend:v1" in done.stderr, done.stderr
