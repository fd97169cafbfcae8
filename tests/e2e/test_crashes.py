"""F06, F07, F08, F09: processes of ours that end or stand still at the worst moment, and traffic that does not notice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.conftest import open_house
from tests.parts.journal import Journal
from tests.parts.service import Service, engine
from tests.parts.stage import Stage
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MakeStage = Callable[..., Stage]

KINDS = ("ResolveImage", "StartReplica", "PublishRoutes", "StopReplica", "RemoveReplica")
POINTS = (
    "observed",
    "intended",
    *(f"{when}:{kind}" for kind in KINDS for when in ("before", "after")),
    "settled",
    "concluded",
)
QUICK = ("intended", "after:StartReplica", "after:PublishRoutes")
"""What `make test` has time for; `make e2e` goes through all of them, with each strategy, there and back."""
CORE = {
    ("rolling", "forward", "before:StopReplica"),
    ("rolling", "rollback", "intended"),
    ("blue_green", "forward", "after:PublishRoutes"),
    ("recreate", "forward", "after:StopReplica"),
    ("recreate", "rollback", "before:StartReplica"),
}
"""What `make core` adds to it: of each strategy the step where most would be lost."""
A_HOUSE = 5
"""Kills that one service takes before its supervisor waits too long for a test."""

STRATEGIES = {
    "rolling": {"type": "rolling"},
    "blue_green": {"type": "blue_green", "keep_old": "0s"},
    "recreate": {"type": "recreate", "hold": "30s"},
}


@pytest.fixture(scope="module")
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for the few kills of one group."""
    with open_house(tmp_path_factory.mktemp("fresh")) as service:
        yield service


def grouped(*cases: tuple[str, ...], slow: bool = False) -> list[object]:
    """Return the cases as parameters, a few for each service."""
    return [
        pytest.param(f"{slow}-{number // A_HOUSE}", *case, id="-".join(case), marks=marks_of(case, slow=slow))
        for number, case in enumerate(cases)
    ]


def marks_of(case: tuple[str, ...], *, slow: bool) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] * slow + [pytest.mark.core] * (case in CORE)


@pytest.mark.parametrize(
    ("fresh", "strategy", "way", "point"),
    [
        *grouped(*(("rolling", "forward", point) for point in QUICK)),
        *grouped(
            *(
                (strategy, way, point)
                for strategy in STRATEGIES
                for way in ("forward", "rollback")
                for point in POINTS
                if (strategy, way) != ("rolling", "forward") or point not in QUICK
            ),
            slow=True,
        ),
    ],
    indirect=["fresh"],
)
def test_a_controller_killed_at_a_step_of_a_pass_goes_on_where_it_stopped(
    fresh: Service, strategy: str, way: str, point: str
) -> None:
    shop = Stage(fresh, "shop", replicas=2, strategy=STRATEGIES[strategy])
    old, new = ("v2", "v1") if shop.version() == "v2" else ("v1", "v2")
    shop.deploy(old)
    if way == "rollback":
        shop.deploy(new)
        old, new = new, old
    number = shop.releases()[0]["release"]
    with Journal(fresh) as journal, shop.load(kept=2, fresh=1):
        with killed_at(fresh, point):
            if way == "rollback":
                shop.try_order("rollback")
            else:
                shop.write(new)
        shop.wait_live(new, 60)
    assert shop.releases()[0]["release"] == number + 1, "one wish, one release"
    journal.check_never_stopped_while_routed()
    if strategy != "recreate":
        journal.check_always_routed(shop.name, at_least=2)
        assert journal.most_running(shop.name, 2) <= 2 + 1 + 2
    if way == "rollback":
        assert shop.row()["pin"] is not None


@contextmanager
def killed_at(house: Service, point: str) -> Iterator[None]:
    """Have the controller killed at *point*, which the block brings about; another one runs at the end."""
    failpoint = house.root / "failpoint"
    controller = house.pid_of("_controller")
    failpoint.write_text(f"{point}=kill")
    yield
    wait_for(lambda: not failpoint.exists(), 30, f"the controller comes to {point}")
    wait_for(lambda: house.pid_of("_controller") not in (0, controller), 30, "there is another controller")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fresh", "strategy", "point"),
    [
        pytest.param(
            f"before-{strategy}",
            strategy,
            point,
            id=f"{strategy}-{point}",
            marks=[pytest.mark.core] * (point == "after:RunBefore"),
        )
        for strategy in ("rolling", "recreate")
        for point in ("before:RunBefore", "after:RunBefore", "before:RemoveReplica")
    ],
    indirect=["fresh"],
)
def test_the_before_command_runs_once_whenever_the_controller_is_killed(
    fresh: Service, strategy: str, point: str
) -> None:
    shop = Stage(fresh, f"once-{strategy}", replicas=1, strategy=STRATEGIES[strategy])
    old, new = ("v2", "v1") if shop.version() == "v2" else ("v1", "v2")
    ran = fresh.logs / f"{shop.name}-{point.replace(':', '-')}.ran"
    shop.deploy(old)
    with shop.load(kept=2, fresh=1), killed_at(fresh, point):
        shop.write(new, before={"command": ["sh", "-c", f"echo ran >> /check/{ran.name}"], "timeout": "20s"})
    shop.wait_live(new, 60)
    assert ran.read_text() == "ran\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fresh", "strategy", "point"),
    [
        pytest.param(
            f"bad-{strategy}",
            strategy,
            point,
            id=f"{strategy}-{point}",
            marks=[pytest.mark.core] * (point == "after:KillReplica"),
        )
        for strategy, points in {
            "rolling": ("before:KeepLogs", "after:KeepLogs", "before:KillReplica", "after:KillReplica"),
            "recreate": ("after:KeepLogs", "before:RestartReplica", "after:RestartReplica", "after:KillReplica"),
        }.items()
        for point in points
    ],
    indirect=["fresh"],
)
def test_a_bad_release_is_undone_whenever_the_controller_is_killed(fresh: Service, strategy: str, point: str) -> None:
    shop = Stage(fresh, f"bad-{strategy}", replicas=1, strategy=STRATEGIES[strategy], deadline="3s", stop_grace="1s")
    if not shop.row():
        shop.deploy("v1")
    running = shop.running()
    with shop.load(kept=2, fresh=1) as client, killed_at(fresh, point):
        shop.write("v2", environment={"NEVER_READY": f"not at {point}", "IGNORE_TERM": "1"})
    shop.wait(lambda row: row.get("sync") == "failed" and row["target"] is None, 60)
    shop.wait_tidy()
    assert shop.running() == running, "the very container that served before"
    assert set(client.report().versions()) == {"v1"}
    assert shop.releases()[0]["outcome"] == "failed"


def test_a_controller_that_is_started_again_where_nothing_changed_changes_nothing(
    house: Service, stage: MakeStage
) -> None:
    shops = [stage(strategy.replace("_", "-"), replicas=2, strategy=fields) for strategy, fields in STRATEGIES.items()]
    for shop in shops:
        shop.put("v1")
    for shop in shops:
        shop.wait_live("v1")
    pinned, _, suspended = shops
    pinned.deploy("v2")
    pinned.wait_answer(pinned.order("rollback"))
    pinned.wait_live("v1")
    suspended.wait_answer(suspended.order("suspend"))
    before = {row["app"]: row for row in house.apps()}
    with Journal(house) as journal, pinned.load():
        house.wait_next("_controller", house.signal_child("_controller", signal.SIGKILL))
        wait_for(lambda: all(row["health"] == "healthy" for row in house.apps()), 20, "all apps were looked at")
        after = {row["app"]: row for row in house.apps()}
    suspended.order("resume")
    assert not journal.writes()
    assert len(journal.versions()) == 1
    keys = ("sync", "health", "release", "image", "phase", "replicas", "pin")
    assert {a: [row.get(k) for k in keys] for a, row in after.items()} == {
        a: [row.get(k) for k in keys] for a, row in before.items()
    }


def test_a_service_that_is_started_again_finds_its_containers_and_touches_none(
    house: Service, stage: MakeStage
) -> None:
    shop = stage("again", replicas=2)
    shop.deploy("v1")
    running = shop.running()
    with Journal(house) as journal:
        assert house.stop() == 0
        house.start()
        wait_for(lambda: shop.row().get("health") == "healthy", 20, "the app was looked at")
        assert shop.version() == "v1"
    assert not journal.writes()
    assert shop.running() == running


def test_with_the_controller_standing_still_workers_set_a_dead_replica_aside(house: Service, stage: MakeStage) -> None:
    shop = stage("still", replicas=2)
    shop.deploy("v1")
    victim = min(shop.running())
    client = shop.client(kept=2, fresh=2)
    controller = house.signal_child("_controller", signal.SIGSTOP)
    try:
        with client.running():
            wait_for(lambda: client.count > 50, 20, "traffic flows")
            with engine() as docker:
                docker.kill(victim)
            sent = client.count
            wait_for(lambda: client.count > sent + 300, 30, "traffic flows on")
    finally:
        os.kill(controller, signal.SIGCONT)
    report = client.report()
    assert not [one for one in report.lost if one.method == "GET"], report.evidence()
    assert not report.doubled
    assert len(report.lost) <= 4, "at most what the dead one was answering"
    shop.wait_tidy()
    assert victim not in shop.running()


def test_killed_workers_are_replaced_and_serve_from_the_snapshot_without_a_controller(
    house: Service, stage: MakeStage
) -> None:
    shop = stage("workers", replicas=2)
    shop.deploy("v1")
    workers = house.pids_of("oton-worker")
    assert len(workers) >= 1
    client = shop.client(kept=0, fresh=3)
    controller = house.signal_child("_controller", signal.SIGSTOP)
    try:
        with client.running():
            wait_for(lambda: client.count > 20, 20, "traffic flows")
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
                wait_for(lambda gone=worker: is_replaced(house, gone, len(workers)), 20, "there is another worker")
                sent = client.count
                wait_for(lambda start=sent: client.count > start + 50, 20, "traffic flows on")
    finally:
        os.kill(controller, signal.SIGCONT)
    report = client.report()
    assert {one.status for one in report.sent} <= {200, None}, "never a 404 or 503 from a worker without routes"
    assert len(report.lost) <= 3 * len(workers), "at most what the killed ones were answering"
    assert not report.doubled
    assert not report.foreign
    wait_for(house.is_ready, 20, "the service is ready")


def is_replaced(house: Service, gone: int, count: int) -> bool:
    now = house.pids_of("oton-worker")
    return gone not in now and len(now) >= count
