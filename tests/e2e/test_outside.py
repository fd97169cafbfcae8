"""F11, F28: containers that are harmed from outside or will not go, and what their app's visitors see of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import docker
import pytest

from tests.parts.client import Report
from tests.parts.journal import Journal
from tests.parts.service import Service, engine
from tests.parts.stage import Stage
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MakeStage = Callable[..., Stage]
Harm = Callable[[docker.APIClient, str], None]

REPLICAS = 3
LANES = 5
HARMS: dict[str, Harm] = {
    "killed": lambda client, container: client.kill(container),
    "stopped": lambda client, container: client.stop(container, timeout=5),
    "removed": lambda client, container: client.remove_container(container, force=True),
    "paused": lambda client, container: client.pause(container),
}


@pytest.fixture(scope="module")
def shop(house: Service) -> Iterator[Stage]:
    shop = Stage(house, "shop", replicas=REPLICAS)
    shop.deploy("v1")
    yield shop
    shop.close()


def check_only_what_was_open_is_lost(report: Report) -> None:
    """What may be repeated was repeated; what may not was lost at most once for each connection, and never doubled."""
    assert not [one for one in report.lost if one.method == "GET"], report.evidence()
    assert len(report.lost) <= LANES, report.evidence()
    assert not report.doubled
    assert not report.foreign


@pytest.mark.parametrize("harm", HARMS)
def test_a_container_that_is_harmed_is_unrouted_at_once_and_replaced(house: Service, shop: Stage, harm: str) -> None:
    victim = shop.running_of_slot(1 + list(HARMS).index(harm) % REPLICAS)
    others = shop.running() - {victim}
    client = shop.client(kept=3, fresh=2)
    with Journal(house) as journal, client.running():
        wait_for(lambda: client.counts()[1] > 50, 20, "traffic flows")
        with engine() as outside:
            HARMS[harm](outside, victim)
        # One that was paused is let go on for a moment on its way out, so that it looks like a running one once more.
        wait_for(lambda: victim not in {row["Id"] for row in shop.containers()}, 40, "the harmed container is gone")
        shop.wait_tidy()
        sent = client.count
        wait_for(lambda: client.count > sent + 50, 20, "traffic flows on")
    check_only_what_was_open_is_lost(client.report())
    assert others < shop.running(), "the others were left alone"
    assert victim not in shop.running()
    harmed = next(e.at for e in journal.events if e.id == victim and e.action in ("die", "pause"))
    unrouted = next(look.at for look in journal.looks if look.at > harmed - 1 and victim not in look.ready(shop.name))
    print(f"{harm}: unrouted {unrouted - harmed:.3f} s after the engine's event")
    assert unrouted - harmed < 2
    journal.check_always_routed(shop.name, at_least=REPLICAS - 1)
    assert [row["release"] for row in shop.releases()] == [1], "healing makes no release"


def test_a_container_that_ignores_its_stop_signal_is_killed_and_delays_nobody_else(
    house: Service, stage: MakeStage
) -> None:
    stubborn, other = stage("stubborn", replicas=1, stop_grace="4s"), stage("other", replicas=1)
    stubborn.put("v1", environment={"IGNORE_TERM": "1"})
    other.put("v1")
    stubborn.wait_live("v1")
    other.wait_live("v1")
    (old,) = stubborn.running()
    with Journal(house) as journal, stubborn.load():
        stubborn.put("v2")
        journal.wait_action(stubborn.name, "kill")
        other.deploy("v2")
        assert old in stubborn.running(), "the other app was through while this one still waited"
        stubborn.wait_live("v2")
    term, kill = [e.at for e in journal.actions(stubborn.name, "kill") if e.id == old]
    assert 3.9 <= kill - term < 8
    journal.check_always_routed(stubborn.name)
