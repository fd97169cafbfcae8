"""A service's memory can be taken away and put back while its traffic goes on."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.conftest import Start
from tests.parts.service import a_spec

pytestmark = pytest.mark.e2e


def test_a_backup_brings_history_and_secrets_back_while_traffic_goes_on(services: Start, backend: Any) -> None:
    service = services()
    service.oton("secret", "set", "shop", "TOKEN", stdin="then")
    spec = a_spec(image=backend("v1"), replicas=1, secrets=["TOKEN"], logs=service.logs)
    service.write_spec(spec)
    service.wait_app("shop", lambda row: row["release"] == 1 and row["sync"] == "synced")
    saved = service.oton("backup", "copy.tar.gz")
    assert saved.returncode == 0, saved.stderr
    assert "protect it" in saved.stderr
    container = service.containers("shop")[0]["Id"]
    assert service.oton("secret", "set", "other", "LATER", stdin="later").returncode == 0

    refused = service.oton("restore", "copy.tar.gz")
    assert refused.returncode == 2
    assert "-y" in refused.stderr
    client = service.client()
    with client.running():
        restored = service.oton("restore", "copy.tar.gz", "-y")
        assert restored.returncode == 0, restored.stderr + service.log_tail()
    client.report().check()
    assert "1 apps" in restored.stdout
    service.wait_app("shop", lambda row: row["release"] == 1 and row["sync"] == "synced")
    assert service.containers("shop")[0]["Id"] == container, "nothing that runs is replaced"
    assert service.api("GET", "/v1/apps/other/secrets").json() == []
    assert [one["name"] for one in service.api("GET", "/v1/apps/shop/secrets").json()] == ["TOKEN"]
    assert [one["release"] for one in service.releases("shop")] == [1]


@pytest.mark.slow
@pytest.mark.core
def test_a_new_service_takes_the_containers_of_a_lost_one_over(services: Start, backend: Any) -> None:
    lost = services("lost")
    spec = a_spec(image=backend("v1"), replicas=1)
    lost.write_spec(spec)
    lost.wait_app("shop", lambda row: row["release"] == 1 and row["sync"] == "synced")
    assert lost.oton("backup", "copy.tar.gz").returncode == 0
    container = lost.containers("shop")[0]["Id"]
    assert lost.stop() == 0
    file = lost.root / "copy.tar.gz"
    shutil.copy(file, lost.root.parent / "copy.tar.gz")
    fresh = services("fresh", settings={"OTON_NETWORK": lost.environment["OTON_NETWORK"]})
    assert fresh.instance != lost.instance
    done = fresh.oton("restore", str(lost.root.parent / "copy.tar.gz"), "-y")
    assert done.returncode == 0, done.stderr + fresh.log_tail()
    fresh.write_spec(spec)
    fresh.wait_app("shop", lambda row: row["release"] == 1 and row["sync"] == "synced" and row["health"] == "healthy")
    assert [one["Id"] for one in fresh.containers("shop")] == [container]
    assert fresh.get().headers["x-version"] == "v1"


@pytest.mark.core
@pytest.mark.slow
def test_a_service_whose_database_is_damaged_is_restored_without_it(services: Start, backend: Any) -> None:
    service = services()
    service.write_spec(a_spec(image=backend("v1"), replicas=1))
    service.wait_app("shop", lambda row: row["release"] == 1 and row["sync"] == "synced")
    container = service.containers("shop")[0]["Id"]
    assert service.oton("backup", "copy.tar.gz").returncode == 0
    running = service.oton("restore", "copy.tar.gz", "-y", "--offline")
    assert running.returncode == 2
    assert "in use" in running.stderr
    assert service.stop() == 0
    (service.root / "database.db").write_bytes(b"damaged" * 1000)
    done = service.oton("restore", "copy.tar.gz", "-y", "--offline")
    assert done.returncode == 0, done.stderr
    service.start()
    service.wait_app("shop", lambda row: row["release"] == 1 and row["health"] == "healthy")
    assert [one["Id"] for one in service.containers("shop")] == [container]


def test_a_backup_that_cannot_be_written_leaves_nothing_behind(services: Start) -> None:
    service = services()
    (service.root / "taken").mkdir()
    for place in ("taken", "missing/copy.tar.gz"):
        done = service.oton("backup", place)
        assert done.returncode == 2, done.stderr
        assert "cannot be written" in done.stderr
    assert not list(service.root.glob(".*.part"))
    assert not list(service.state.glob(".archive-*"))


def test_what_is_no_backup_changes_nothing(services: Start) -> None:
    service = services()
    (service.root / "x").write_bytes(b"no backup")
    refused = service.oton("restore", "x", "-y")
    assert refused.returncode == 2
    assert "not an Oton Pilot backup" in refused.stderr
    assert service.oton("restore", "missing", "-y").returncode == 2
