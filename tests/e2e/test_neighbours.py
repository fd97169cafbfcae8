"""F22: one service on a state directory, and two services on one engine that never touch each other."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import open_house
from tests.parts.journal import Journal
from tests.parts.service import Service
from tests.parts.stage import Stage
from tests.parts.wait import free_port, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Another service with a state directory of its own on the same engine."""
    with open_house(tmp_path_factory.mktemp("second")) as service:
        yield service


def test_two_services_run_the_same_app_beside_each_other(house: Service, second: Service) -> None:
    ours, theirs = Stage(house, "twin", replicas=2), Stage(second, "twin", replicas=2)
    assert house.instance != second.instance
    ours.put("v1")
    theirs.put("v2")
    ours.wait_live("v1")
    theirs.wait_live("v2")
    assert (ours.version(), theirs.version()) == ("v1", "v2")
    before = theirs.running()
    with Journal(second) as journal, theirs.load() as client:
        ours.deploy("v3")
        house.kill()  # as a crash of all its processes would
        house.start()
        ours.wait(lambda row: row["health"] == "healthy")
        ours.close()
        assert not ours.containers()
    assert not journal.writes()
    assert theirs.running() == before
    assert set(client.report().versions()) == {"v2"}
    theirs.close()


def test_a_second_service_on_a_state_directory_is_refused_in_one_line(house: Service) -> None:
    shop = Stage(house, "alone", replicas=1)
    shop.deploy("v1")
    other = {"PORT": str(free_port()), "OTON_SOCKET": str(house.root / "s" / "other.sock")}
    with Journal(house) as journal, shop.load():
        done = subprocess.run(
            [sys.executable, "-m", "controller", "serve"],
            cwd=house.root,
            env={**house.environment, **other},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 2
    assert re.fullmatch(r"oton: OTON_STATE: .* is in use by another service.*\n", done.stderr), done.stderr
    assert not journal.writes()
    assert not journal.versions() - {journal.looks[0].version}


@pytest.mark.core
@pytest.mark.slow
def test_a_controller_whose_lock_is_gone_stops_acting(tmp_path: Path) -> None:
    with open_house(tmp_path / "house") as house:
        shop = Stage(house, "shop", replicas=1)
        shop.deploy("v1")
        with Journal(house) as journal, shop.load():
            (house.state / "lock").unlink()
            shop.write("v2")
            wait_for(lambda: "lock" in house.log_tail(50), 20, "it says so")
            assert shop.version() == "v1"
        assert not journal.writes()
        house.stop()
        house.start()
        shop.wait_live("v2")
