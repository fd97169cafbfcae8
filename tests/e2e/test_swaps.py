"""F01: swaps in a row under load, keep-alive and new connections, GET, POST and long requests: nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.parts.client import CheckingClient
from tests.parts.journal import Journal
from tests.parts.service import Service
from tests.parts.stage import Stage
from tests.parts.wait import wait_for

pytestmark = pytest.mark.e2e

STRATEGIES = {
    "rolling": {"type": "rolling"},
    "green": {"type": "blue_green", "keep_old": "0s"},
}
MOST_RUNNING = {"rolling": 2 + 1 + 2, "green": 2 + 2}
"""Replicas, surge and draining ones; blue and green."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "swaps", [pytest.param(5, id="5"), pytest.param(20, id="20", marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_rolling_and_blue_green_swaps_in_a_row_under_load_lose_nothing(
    house: Service, stage: Callable[..., Stage], swaps: int
) -> None:
    shops = {word: stage(word, replicas=2, strategy=strategy) for word, strategy in STRATEGIES.items()}
    for shop in shops.values():
        shop.put("v1")
    for shop in shops.values():
        shop.wait_live("v1")
    with Journal(house) as journal, ExitStack() as loads:
        clients = {word: loads.enter_context(shop.load(slow=1)) for word, shop in shops.items()}
        for number in range(swaps):
            old, new = ("v1", "v2") if number % 2 == 0 else ("v2", "v1")
            releases = {word: shop.wait_answer(shop.put(new))["release"] for word, shop in shops.items()}
            for word, shop in shops.items():
                no_old_answer_after_the_switch(shop, clients[word], releases[word], old)
            for shop in shops.values():
                shop.wait_live(new)
    journal.check_never_stopped_while_routed()
    for word, shop in shops.items():
        journal.check_always_routed(shop.name, at_least=2)
        assert journal.most_running(shop.name, 2) <= MOST_RUNNING[word]
        sent = clients[word].report().sent
        assert {(one.method, one.fresh) for one in sent} >= {(m, f) for m in ("GET", "POST") for f in (True, False)}
        assert sum(one.target.startswith("/slow") and one.status == 200 for one in sent) >= 2
        assert [row["outcome"] for row in shop.releases()] == ["live", *["superseded"] * swaps]


def no_old_answer_after_the_switch(shop: Stage, client: CheckingClient, release: int, old: str) -> None:
    """Once the release is said to serve, no request that is sent from then on is answered by the old version."""
    shop.wait(lambda row: row["release"] == release)
    moment, sent = time.time(), client.count
    wait_for(lambda: client.counts()[1] > sent + 20, 20, "more answers come")
    late = client.report().old_after(moment, old)
    assert not late, f"{len(late)} requests sent after the switch were answered by {old}: {late[:3]}"


@pytest.mark.core
@pytest.mark.slow
def test_a_canary_goes_step_by_step_or_back_at_once_and_loses_nothing(
    house: Service, stage: Callable[..., Stage]
) -> None:
    steps = [{"weight": 50, "hold": "2s"}]
    patient = {"type": "canary", "steps": steps, "abort_on": {"p95": None, "error_rate": None}}
    strict = {"type": "canary", "steps": steps, "abort_on": {"p95": "1ms"}}  # no answer of a container is that quick
    shop = stage("canary", replicas=2)
    shop.deploy("v1")
    with Journal(house) as journal, shop.load() as client:
        change = shop.put("v2", strategy=patient)
        shop.wait(lambda row: row["phase"] == "waiting" and row["step"] == "1/1")
        sent = client.count
        wait_for(lambda: client.count > sent + 20, 20, "visitors are shared out")
        assert set(client.report().versions()) == {"v1", "v2"}
        shop.wait_live("v2")
        assert shop.wait_answer(change)["release"] == 2
        assert shop.apply("v1", strategy=strict).returncode == 3
        shop.wait_tidy()
        assert shop.version() == "v2"
    assert [row["outcome"] for row in shop.releases()] == ["rolled_back", "live", "superseded"]
    journal.check_always_routed(shop.name, at_least=2)
    journal.check_never_stopped_while_routed()
