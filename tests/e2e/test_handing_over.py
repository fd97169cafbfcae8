"""Hosts and paths on their way from one owner, or one release, to the next, under load."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.parts.journal import Journal
from tests.parts.service import Service, engine
from tests.parts.stage import Stage
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MakeStage = Callable[..., Stage]


def test_a_route_that_waits_for_promotion_takes_no_request_from_what_serves(house: Service, stage: MakeStage) -> None:
    manual = {"type": "blue_green", "promote": "manual"}
    shop = stage("narrow", replicas=1, strategy=manual)
    shop.deploy("v1")
    routes = [{"host": shop.host}, {"host": shop.host, "path": "/api"}]
    with shop.load():
        assert shop.apply("v2", routes=routes).returncode == 9
        before = house.get("/api/x", host=shop.host)
        assert (before.status_code, before.headers["x-version"]) == (200, "v1")
        assert house.oton("promote", shop.name).returncode == 0
        after = house.get("/api/x", host=shop.host)
        assert (after.status_code, after.headers["x-version"]) == (200, "v2")


@pytest.mark.core
@pytest.mark.slow
def test_only_the_claim_waits_for_a_giver_that_a_person_has_to_move(house: Service, stage: MakeStage) -> None:
    giver, taker = stage("giver", replicas=1), stage("taker", replicas=2)
    both_files = f"{giver.name}-{taker.name}.yaml"  # one file, so that one look finds both changed
    house.write_spec(f"{giver.spec('v1')}\n---\n{taker.spec('v1')}", both_files)
    giver.wait_live("v1")
    taker.wait_live("v1")
    manual = {"type": "blue_green", "promote": "manual"}
    keep = [{"host": f"keep.{giver.name}.test"}]
    both = [{"host": taker.host}, {"host": giver.host}]
    with giver.load(), taker.load() as calm:
        gives = giver.spec("v2", routes=keep, strategy=manual)
        house.write_spec(f"{gives}\n---\n{taker.spec('v2', routes=both)}", both_files)
        giver.wait(lambda row: row["waits_for_person"])
        taker.wait_live("v2")
        row = taker.wait(lambda row: row["sync"] == "invalid")
        assert f"{giver.host}/, which {giver.name} has" in row["message"]
        assert giver.version() == "v1"
        calm.stop_posts()  # one on its way to a replica that is killed is not sent twice
        dead = taker.running_of_slot(1)
        with engine() as client:
            client.kill(dead)
        wait_for(lambda: dead not in taker.running() and len(taker.running()) == 2, 20, "the dead one is replaced")
        taker.wait_tidy()
    assert house.oton("maintenance", taker.name, "on", limit_s=20).returncode == 0
    assert taker.version() == "503"
    assert house.oton("maintenance", taker.name, "off", limit_s=20).returncode == 0
    with giver.load() as client:
        assert house.oton("promote", giver.name).returncode == 0
        taker.wait(lambda row: row["sync"] == "synced" and not row["missing_routes"])
        assert house.get(host=giver.host).headers["x-version"] == "v2"
    assert set(client.report().versions()) == {"v1", "v2"}


@pytest.mark.core
@pytest.mark.slow
def test_an_app_that_another_replaces_serves_until_that_one_is_ready(house: Service, stage: MakeStage) -> None:
    old, new = stage("old", replicas=2), stage("new", replicas=2)
    old.deploy("v1")
    with Journal(house) as journal, old.load() as client:
        house.write_spec(
            new.spec("v2", routes=[{"host": old.host}], manners={"START_DELAY_S": "2"}), f"{old.name}.yaml"
        )
        new.wait(lambda row: row["phase"] == "live")
        wait_for(lambda: not old.containers(), 30, "the old app is gone")
    assert set(client.report().versions()) == {"v1", "v2"}
    journal.check_never_stopped_while_routed()


@pytest.mark.slow
def test_deleting_an_app_hands_its_host_over_and_a_suspended_one_says_what_to_do(
    house: Service, stage: MakeStage
) -> None:
    old, new = stage("leaving", replicas=1), stage("heir", replicas=1)
    old.deploy("v1")
    new.deploy("v1")
    with old.load():
        assert new.apply("v2", routes=[{"host": new.host}, {"host": old.host}]).returncode == 5
        assert house.oton("suspend", old.name).returncode == 0
        done = house.oton("delete", old.name, "-y", limit_s=30)
        assert done.returncode == 9
        assert f"oton resume {old.name}" in done.stdout + done.stderr
        assert house.oton("resume", old.name).returncode in (0, 6)
        wait_for(lambda: not old.containers(), 30, "the old app is gone")
        new.wait(lambda row: row["phase"] == "live" and not row["missing_routes"])
    assert house.get(host=old.host).headers["x-version"] == "v2"
