"""F03, F04, F05: what turns out bad after the switch is undone once; the newest wish wins, whatever was under way."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.parts.journal import Journal
from tests.parts.service import Service, engine
from tests.parts.stage import Stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

MakeStage = Callable[..., Stage]


def crash(shop: Stage) -> None:
    """Have one replica end; the request is a POST, so the proxy does not carry it on to the next one."""
    answer = httpx.post(f"http://127.0.0.1:{shop.service.port}/crash", headers={"Host": shop.host}, timeout=20)
    assert answer.status_code == 502


@pytest.mark.parametrize(
    "strategy", ["rolling", pytest.param("blue_green", marks=[pytest.mark.slow, pytest.mark.core])]
)
def test_a_release_that_crashes_while_it_bakes_is_undone_once(house: Service, stage: MakeStage, strategy: str) -> None:
    shop = stage("bake", replicas=2, strategy=strategy, bake="60s")
    shop.deploy("v1", bake="0s")
    client = shop.client(slow=1, slow_s=1)
    with Journal(house) as journal, client.running(), ThreadPoolExecutor(1) as person:
        applied = person.submit(shop.apply, "v2")
        shop.wait(lambda row: row["release"] == 2 and row["phase"] == "baking")
        crash(shop)
        done = applied.result(60)
        assert done.returncode == 3, done.stderr
        assert "fatal: asked to crash" in done.stderr
        row = shop.wait_live("v1")
        sent = client.count
        shop.wait(lambda _: client.count > sent + 20)
    report = client.report()
    assert not [one for one in report.lost if one.method == "GET"], report.evidence()
    assert not report.doubled
    assert not report.foreign
    assert row["sync"] == "failed"
    history = {one["release"]: one for one in shop.releases()}
    assert {number: one["outcome"] for number, one in history.items()} == {
        1: "superseded",
        2: "rolled_back",
        3: "live",
    }
    assert history[3]["reason"].startswith("undo of 2")
    journal.check_always_routed(shop.name)
    # What serves the undo are the containers that waited warm, not new ones.
    assert {event.release for event in journal.actions(shop.name, "create")} == {2}


def test_a_rollback_to_what_is_bad_now_stops_and_says_so(house: Service, stage: MakeStage) -> None:
    shop = stage("back", replicas=1)
    flag = house.logs / f"{shop.name}.ok"
    flag.touch()
    program = f"test -e /check/{flag.name} && exec /usr/bin/python3 -I -S /backend.py; echo no licence; exit 4"
    shop.deploy("v1", command=["sh", "-c", program])
    shop.deploy("v2")
    flag.unlink()
    other = stage("other", replicas=1)
    with Journal(house) as journal, shop.load():
        done = house.oton("rollback", shop.name)
        assert done.returncode == 3, done.stderr
        assert "no licence" in done.stderr
        shop.wait_live("v2")
        starts = len(journal.actions(shop.name, "start"))
        other.deploy("v1")  # time passes; nobody tries again
        assert len(journal.actions(shop.name, "start")) == starts <= 3
        changes = [event for event in journal.writes() if event.app == shop.name]
        assert len(changes) <= 3 * 4, "create, start, die and destroy of each try"
    assert [row["outcome"] for row in shop.releases()][:2] == ["failed", "live"]
    assert shop.row()["pin"] is None


@pytest.mark.core
@pytest.mark.slow
def test_an_undo_that_fails_is_never_undone_and_loops_nowhere(house: Service, stage: MakeStage) -> None:
    shop = stage("both", replicas=1, bake="60s", strategy={"type": "rolling", "max_surge": 0, "max_unavailable": 1})
    flag = house.logs / f"{shop.name}.ok"
    flag.touch()
    program = f"test -e /check/{flag.name} && exec /usr/bin/python3 -I -S /backend.py; echo no licence; exit 4"
    shop.deploy("v1", command=["sh", "-c", program], bake="0s")
    (old,) = shop.running()
    shop.put("v2")
    shop.wait(lambda row: row["release"] == 2 and row["phase"] == "baking")
    flag.unlink()
    with Journal(house) as journal:
        with engine() as client:
            client.kill(old)  # the warm container of v1; from now on it cannot be made anew
        crash(shop)
        row = shop.wait(lambda row: row["target"] is None and shop.releases()[0]["outcome"] == "failed", 60)
        starts = len(journal.actions(shop.name, "start"))
        assert starts <= 8
    assert row["sync"] in ("failed", "pinned")
    assert row["message"]
    assert len(shop.releases()) <= 3


def test_a_newer_spec_in_the_middle_of_a_rollout_wins(house: Service, stage: MakeStage) -> None:
    shop = stage("newer", replicas=3)
    shop.deploy("v1")
    with Journal(house) as journal, shop.load():
        shop.write("v2")
        journal.wait_action(shop.name, "start")
        shop.write("v3")
        shop.wait_live("v3")
        shop.write("v1", strategy={"type": "blue_green", "keep_old": "0s"})
        journal.wait_action(shop.name, "start", len(journal.actions(shop.name, "start")) + 1)
        shop.write("v2")
        shop.wait_live("v2")
    journal.check_always_routed(shop.name, at_least=3)
    journal.check_never_stopped_while_routed()
    assert journal.most_running(shop.name, 3) <= 3 + 1 + 3


def test_of_ten_specs_within_two_seconds_the_newest_is_what_serves(house: Service, stage: MakeStage) -> None:
    shop = stage("ten", replicas=2)
    shop.deploy("v1")
    with Journal(house) as journal, shop.load() as client:
        for turn in range(10):
            shop.write("v2" if turn % 2 else "v1", environment={"TURN": str(turn)})
            time.sleep(0.2)  # the fault itself: ten within two seconds
        shop.wait_live("v2")
    journal.check_always_routed(shop.name, at_least=2)
    journal.check_never_stopped_while_routed()
    assert journal.most_running(shop.name, 2) <= 2 + 1 + 2
    assert client.report().sent
    assert {row["outcome"] for row in shop.releases()[1:]} == {"superseded"}
