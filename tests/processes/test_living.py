"""One service that lives through the end of each of its processes."""

from __future__ import annotations

import http.client
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from controller.seccomp import is_limited
from tests.processes.service import Load, Service, backend, until


@pytest.fixture(scope="module")
def shop():
    with backend("shop-a") as made:
        yield made


@pytest.fixture(scope="module")
def service(tmp_path_factory, shop):
    made = Service(tmp_path_factory.mktemp("living"), environ={"OTON_STOP_TIMEOUT": "5s"})
    try:
        made.start()
        made.publish("shop", shop)
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def settled(service):
    until(lambda: service.is_settled() and len(service.workers()) == 2 and service.nursery(), "it never settled")


def test_it_serves_what_the_controller_published(service):
    assert service.ask() == (200, "shop-ashop-a")
    assert service.ask("nobody")[0] == 404


def test_sighup_replaces_every_worker_and_refuses_nobody(service, shop):
    old = service.workers()
    nursery = service.nursery()
    with Load(service, "shop-ashop-a") as load:
        service.send(signal.SIGHUP)
        until(lambda: len(service.workers()) == 2 and not set(service.workers()) & set(old), "the old ones stayed")
        load.goes_on()
    assert load.failures == []
    assert load.sent
    assert service.nursery() != nursery
    until(lambda: sorted(map(int, service.status()["workers"])) == sorted(service.workers()))


def test_sighup_lets_a_download_end_and_ends_a_stream_only_at_its_limit(service):
    old = service.workers()
    retired_before = len(service.said("workers replaced"))

    def follow() -> float:
        with suppress(OSError, http.client.HTTPException):
            service.ask("shop", "/events", 30)
        return time.monotonic()

    with Load(service, "shop-ashop-a") as load, ThreadPoolExecutor() as pool:
        slow = pool.submit(service.ask, "shop", "/slow/3.5")
        stream = pool.submit(follow)
        load.goes_on(10)
        service.send(signal.SIGHUP)
        until(lambda: len(service.said("workers replaced")) > retired_before)
        retired = time.monotonic()
        assert slow.result(20) == (200, "shop-ashop-a")
        assert 5 * 0.75 - 0.5 < stream.result(20) - retired < 5 + 2, "its limit is five seconds"
        until(lambda: not set(service.workers()) & set(old))
    assert load.failures == []


def test_a_killed_worker_is_replaced_and_the_other_serves_on(service):
    number, pid = min(service.workers().items())
    os.kill(pid, signal.SIGKILL)
    until(lambda: str(number) not in service.status()["workers"], "it stayed on the roster")
    until(lambda: len(service.workers()) == 2 and number not in service.workers(), "it was not replaced")
    until(service.is_settled)
    for _ in range(20):
        assert service.ask() == (200, "shop-ashop-a")


def test_a_killed_controller_comes_back_and_traffic_does_not_notice(service, shop):
    before = service.status()
    with Load(service, "shop-ashop-a") as load:
        os.kill(before["pid"], signal.SIGKILL)
        until(lambda: service.status()["pid"] != before["pid"])
        until(service.is_settled)
        load.goes_on()
    assert load.failures == []
    after = service.status()
    assert after["version"] == before["version"], "a restart changes no table"
    assert after["lock"]
    assert sorted(after["workers"]) == sorted(before["workers"])
    with backend("blog-a") as blog:
        service.publish("blog", blog)
        assert service.ask("blog") == (200, "blog-ablog-a")
    assert service.status()["version"] == before["version"] + 1


def test_a_killed_nursery_comes_back_and_its_workers_serve_on(service):
    nursery, workers = service.nursery(), service.workers()
    os.kill(nursery, signal.SIGKILL)
    until(lambda: service.nursery() not in (None, nursery))
    assert service.workers() == workers
    os.kill(workers[min(workers)], signal.SIGKILL)
    until(lambda: len(service.workers()) == 2 and min(workers) not in service.workers(), "the new nursery bore nobody")
    assert service.ask() == (200, "shop-ashop-a")


def test_without_a_controller_workers_serve_on_and_a_new_one_starts_from_the_snapshot(service, shop):
    controller = service.status()["pid"]
    workers = service.workers()
    os.kill(controller, signal.SIGSTOP)
    try:
        for pid in workers.values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(service.workers()) == 2 and not set(service.workers()) & set(workers))
        until(lambda: service.ask()[0] == 200)
        assert service.ask() == (200, "shop-ashop-a")
        young = service.workers()
    finally:
        os.kill(controller, signal.SIGCONT)
    until(service.is_settled)
    assert service.workers() == young, "nobody is blamed for the time in which the controller was stopped"


def test_a_worker_that_hangs_is_killed_because_it_does_not_confirm(service, shop):
    number, pid = min(service.workers().items())
    os.kill(pid, signal.SIGSTOP)
    try:
        with backend("shop-b") as other:
            service.publish("shop", other)
            assert number not in service.workers()
            assert service.ask() == (200, "shop-bshop-b")
            service.publish("shop", shop)
    finally:
        if number in service.workers():
            os.kill(pid, signal.SIGCONT)


def test_the_meters_of_all_workers_are_summed_and_do_not_go_back(service):
    for _ in range(10):
        service.ask()

    def counted() -> int:
        rows = service.order(counters=True)["requests"]
        return sum(row["count"] for row in rows if row["app"] == "shop" and row["class"] == 2)

    until(lambda: counted() >= 10)
    before = counted()
    os.kill(service.workers()[min(service.workers())], signal.SIGKILL)
    until(service.is_settled)
    assert counted() >= before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give rights away")
def test_workers_run_as_somebody_who_may_nothing(service):
    for pid in (*service.workers().values(), service.nursery()):
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        assert "0" not in status["Uid"].split(), status["Uid"]
        assert "0" not in status["Gid"].split()
        assert status["Groups"].strip() == ""
        assert status["NoNewPrivs"] == "1"
        assert all(int(status[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"))
        opened = [fd.readlink() for fd in Path(f"/proc/{pid}/fd").iterdir()]
        assert not [
            one for one in opened if one.name in ("docker.sock", "database.db", "lock", "instance", "stub.sock")
        ]
        environ = Path(f"/proc/{pid}/environ").read_text()
        assert "DB_PATH" not in environ
        assert "OTON_" not in environ


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give rights away")
@pytest.mark.parametrize("what", ["engine", "database", "state", "lock", "instance", "controller's socket"])
def test_the_proxy_user_can_open_neither_the_engine_nor_the_database_nor_the_state(service, what):
    from controller.kernel import drop_privileges

    database = service.folder / "database.db"
    if not database.exists():
        database.touch(0o600)
    place = {
        "engine": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"),
        "database": str(database),
        "state": str(service.state),
        "lock": str(service.state / "lock"),
        "instance": str(service.state / "instance"),
        "controller's socket": str(service.state / "stub.sock"),
    }[what]
    if not Path(place).exists():
        pytest.skip(f"there is no {place}")
    some_worker = next(iter(service.workers().values()))
    uid = int(Path(f"/proc/{some_worker}/status").read_text().split("Uid:\t")[1].split()[0])
    child = os.fork()
    if child == 0:
        drop_privileges(uid, uid)
        os._exit(sum(os.access(place, way) << bit for bit, way in enumerate((os.R_OK, os.W_OK))))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_sighup_costs_a_client_that_keeps_its_connection_no_request(service):
    old = service.workers()
    with Load(service, "shop-ashop-a", keep_alive=True) as load:
        service.send(signal.SIGHUP)
        until(lambda: not set(service.workers()) & set(old))
        load.goes_on()
    assert load.failures == []


def test_workers_and_the_nursery_have_given_up_calls_that_no_proxy_needs(service):
    for pid in (*service.workers().values(), service.nursery()):
        assert is_limited(Path(f"/proc/{pid}/status").read_text())
