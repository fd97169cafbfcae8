"""What a person asks for on the command line, with its exit code, on a real engine and under load."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.parts.images import ensure_backend_image
from tests.parts.journal import Journal
from tests.parts.service import Service, engine
from tests.parts.stage import Stage
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MakeStage = Callable[..., Stage]


def run(house: Service, code: int, *words: str, stdin: str = "") -> str:
    """Run `oton`, expect *code*, and return all that was printed."""
    done = house.oton(*words, stdin=stdin)
    printed = done.stdout + done.stderr
    assert done.returncode == code, f"oton {' '.join(words)} ended with {done.returncode}:\n{printed}"
    return printed


def test_green_waits_behind_its_preview_host_until_a_person_promotes_it(house: Service, stage: MakeStage) -> None:
    preview = "next.manual.test"
    strategy = {"type": "blue_green", "promote": "manual", "preview_host": preview, "keep_old": "60s"}
    shop = stage("manual", replicas=1, strategy=strategy)
    shop.deploy("v1")
    (blue,) = shop.running()
    with Journal(house) as journal, shop.load() as client:
        printed = run(house, 9, "apply", "-", stdin=shop.spec("v2"))
        assert f"oton promote {shop.name}" in printed
        assert house.get(host=preview).headers["x-version"] == "v2"
        assert shop.version() == "v1"
        run(house, 0, "promote", shop.name)
        assert shop.version() == "v2"
        assert set(client.report().versions()) == {"v1", "v2"}
        assert blue in shop.running(), "blue stays warm"
        run(house, 5, "promote", shop.name)
        run(house, 0, "rollback", shop.name)
        assert shop.version() == "v1"
    assert blue in shop.running(), "the way back is one switch, no new container"
    journal.check_always_routed(shop.name)
    journal.check_never_stopped_while_routed()


@pytest.mark.core
@pytest.mark.slow
def test_an_aborted_rollout_leaves_what_served(house: Service, stage: MakeStage) -> None:
    shop = stage("abort", replicas=1, strategy={"type": "blue_green", "promote": "manual"})
    shop.deploy("v1")
    before = shop.running()
    with shop.load():
        run(house, 9, "apply", "-", stdin=shop.spec("v2"))
        run(house, 0, "abort", shop.name)
        wait_for(lambda: {row["Id"] for row in shop.containers()} == before, 20, "green is gone")
        assert shop.version() == "v1"
        run(house, 5, "abort", shop.name)
    assert shop.releases()[0]["outcome"] == "rolled_back"
    assert shop.row()["sync"] == "failed"


def test_suspended_nothing_moves_but_the_dead_leave_the_table_and_resume_catches_up(
    house: Service, stage: MakeStage
) -> None:
    shop = stage("suspend", replicas=2)
    shop.deploy("v1")
    with Journal(house) as journal:
        run(house, 0, "suspend", shop.name)
        run(house, 9, "apply", "-", stdin=shop.spec("v2"))
        victim = min(shop.running())
        with engine() as outside:
            outside.kill(victim)
        shop.wait(lambda row: row["replicas"]["routed"] == 1)
        assert shop.version() == "v1"
        assert not journal.actions(shop.name, "create", "start")
        assert shop.row()["sync"] == "suspended"
        run(house, 0, "resume", shop.name)
        assert shop.version() == "v2"
        shop.wait_live("v2")
    journal.check_always_routed(shop.name)


def test_maintenance_answers_for_the_app_cuts_nothing_and_survives_a_restart(house: Service, stage: MakeStage) -> None:
    shop = stage("maintenance", replicas=1)
    shop.deploy("v1")
    running = shop.running()
    with ThreadPoolExecutor(1) as visitor:
        open_request = visitor.submit(house.get, "/slow?s=3", shop.host)
        wait_for(lambda: "/slow?s=3" in shop.backend_log(), 10, "the request is under way")
        assert "maintenance is on" in run(house, 0, "maintenance", shop.name, "on", "--message", "back at noon")
        answer = house.get(host=shop.host)
        assert (answer.status_code, "back at noon" in answer.text) == (503, True)
        assert "retry-after" in answer.headers
        assert open_request.result(20).status_code == 200
    house.wait_next("_controller", house.signal_child("_controller", signal.SIGKILL))
    assert house.get(host=shop.host).status_code == 503
    run(house, 0, "maintenance", shop.name, "off").index("maintenance is off")
    assert shop.version() == "v1"
    assert shop.running() == running


@pytest.mark.slow
@pytest.mark.core
def test_a_rollback_sticks_until_the_file_says_something_new(house: Service, stage: MakeStage) -> None:
    shop = stage("pins", replicas=2)
    shop.deploy("v1")
    shop.deploy("v2")
    with Journal(house) as journal, shop.load():
        run(house, 0, "rollback", shop.name)
        assert shop.version() == "v1"
        assert shop.row()["sync"] == "pinned"
        printed = run(house, 5, "apply", "-", stdin=shop.spec("v2"))
        assert f"oton unpin {shop.name}" in printed
        assert shop.version() == "v1"
        run(house, 0, "unpin", shop.name)
        shop.wait_live("v2")
        run(house, 0, "rollback", shop.name, "--to", "1")
        run(house, 0, "apply", "-", stdin=shop.spec("v2", environment={"WORD": "new"}))
        shop.wait_live("v2")
        assert shop.row()["pin"] is None
    journal.check_always_routed(shop.name, at_least=2)
    run(house, 6, "rollback", shop.name, "--to", "99")
    run(house, 6, "rollback", "nobody")


def test_a_deleted_app_is_gone_from_the_engine_and_its_number_goes_on(house: Service, stage: MakeStage) -> None:
    shop = stage("delete", replicas=2)
    shop.deploy("v1")
    run(house, 0, "delete", "-y", shop.name)
    assert house.get(host=shop.host).status_code == 404
    assert not shop.containers()
    assert not (house.desired / f"{shop.name}.yaml").exists()
    assert [row["release"] for row in shop.releases()] == [1]
    run(house, 0, "apply", "-", stdin=shop.spec("v2"))
    assert [row["release"] for row in shop.releases()] == [2, 1]
    assert shop.version() == "v2"


@pytest.mark.core
@pytest.mark.slow
def test_a_restart_replaces_every_container_and_loses_nothing(house: Service, stage: MakeStage) -> None:
    shop = stage("restart", replicas=2)
    shop.deploy("v1")
    before = shop.running()
    with Journal(house) as journal, shop.load():
        run(house, 0, "restart", shop.name)
        shop.wait_tidy()
    assert not before & shop.running()
    newest, first = shop.releases()
    assert (newest["reason"], newest["image_id"]) == ("restart", first["image_id"])
    journal.check_always_routed(shop.name, at_least=2)
    journal.check_never_stopped_while_routed()


@pytest.mark.core
@pytest.mark.slow
def test_an_apply_finds_that_the_image_has_moved_and_a_look_alone_does_not(house: Service, stage: MakeStage) -> None:
    name = "oton-test-backend:moving"
    shop = stage("moved", replicas=1, image=name)
    tag(ensure_backend_image("v1"), name)
    shop.put()
    shop.wait_live("moving")
    assert shop.version() == "v1"
    tag(ensure_backend_image("v2"), name)
    (before,) = shop.running()
    with engine() as outside:
        outside.kill(before)
    wait_for(lambda: shop.running() - {before}, 20, "it is healed")
    shop.wait_tidy()
    assert shop.version() == "v1", "healing uses the release's own image"
    with shop.load():
        run(house, 0, "apply", "-", stdin=shop.spec())
        assert shop.version() == "v2"
    assert shop.releases()[0]["reason"] == "image moved"
    run(house, 0, "apply", "-", stdin=shop.spec())
    assert len(shop.releases()) == 2, "an unchanged spec and image make no release"


def tag(ref: str, name: str) -> None:
    with engine() as client:
        client.tag(ref, *name.split(":"))


def test_recreate_has_visitors_wait_and_never_runs_two_at_once(house: Service, stage: MakeStage) -> None:
    shop = stage("single", replicas=1, strategy={"type": "recreate", "hold": "30s"})
    shop.deploy("v1")
    with Journal(house) as journal, shop.load(slow=1, slow_s=1) as client:
        run(house, 0, "apply", "-", stdin=shop.spec("v2"))
    report = client.report()
    waits = sorted(one.answered - one.sent for one in report.sent if one.answered and "/slow" not in one.target)
    print(f"longest wait {waits[-1]:.2f} s")
    assert set(report.versions()) == {"v1", "v2"}
    assert waits[-1] > 0.3, "somebody had to wait for the new one"
    assert journal.overlaps(shop.name) == 0


def test_a_failed_recreate_starts_the_old_container_again(house: Service, stage: MakeStage) -> None:
    shop = stage("way-back", replicas=1, deadline="4s", strategy={"type": "recreate", "hold": "30s"})
    shop.deploy("v1")
    before = shop.running()
    with Journal(house) as journal, shop.load() as client:
        printed = run(house, 3, "apply", "-", stdin=shop.spec("v2", environment={"NEVER_READY": "no licence"}))
        assert "no licence" in printed
        shop.wait_live("v1")
    assert shop.running() == before, "the very container, not a new one"
    assert set(client.report().versions()) == {"v1"}
    assert journal.overlaps(shop.name) == 0
