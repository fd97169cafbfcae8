"""Inspected apps under steady traffic: addons that eat memory, and the replacement of all that serves."""

from __future__ import annotations

import signal

import pytest

from tests.parts.service import Service
from tests.parts.stage import Stage
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

STAMP = """
def response(flow):
    flow.response.headers["x-stamp"] = "inspected"
"""
AT_ONCE = """
kept = []
def request(flow):
    kept.append(bytearray(40_000_000))
"""
BIT_BY_BIT = """
kept = []
def request(flow):
    kept.append([str(number) for number in range(200_000)])
"""


def inspect(service: Service, name: str, source: str) -> Stage:
    """Deploy an app whose requests run through an addon of this source."""
    folder = service.state / "addons"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(source)
    stage = Stage(service, name)
    stage.deploy(proxy={"inspect": True, "addons": [name]})
    wait_for(lambda: is_stamped(stage), 20, "the addon's stamp")
    return stage


def is_stamped(stage: Stage) -> bool:
    return stage.service.get(host=stage.host).headers.get("x-stamp") == "inspected"


def events(stage: Stage) -> list[str]:
    rows = stage.service.api("GET", f"/v1/events?app={stage.name}&follow=false&limit=500").json()
    return [row["text"] for row in rows]


@pytest.mark.parametrize(
    "eater", [pytest.param(AT_ONCE, id="at-once"), pytest.param(BIT_BY_BIT, id="bit-by-bit", marks=pytest.mark.slow)]
)
def test_an_inspector_whose_addon_eats_memory_is_replaced_and_no_request_is_lost(service: Service, eater: str) -> None:
    other = Stage(service, "other")
    other.deploy()
    greedy = inspect(service, "greedy", STAMP + eater)
    first = service.pids_of("oton-inspect")
    serves = "the inspector serves with addons: greedy"
    with other.load(), greedy.load():
        told = "the inspector has used up its 384 MiB of memory and is replaced"
        wait_for(lambda: told in events(greedy), 60, "the event")
        wait_for(lambda: events(greedy).count(serves) > 1, 30, "another inspector")
        wait_for(lambda: not set(first) & set(service.pids_of("oton-inspect")), 20, "the first one's end")
    assert any(text.startswith("addon greedy: line ") and text.endswith(": MemoryError") for text in events(greedy))
    assert service.log_file.read_text().count("Addon error") < 10, "not a traceback for each request"


def test_sighup_replaces_workers_and_inspectors_and_no_request_of_an_inspected_app_is_lost(service: Service) -> None:
    shop = inspect(service, "shop", STAMP)
    names = ("oton-nursery", "oton-worker", "oton-inspect")
    old = {pid for name in names for pid in service.pids_of(name)}
    assert len(old) == 4
    with shop.load():
        assert service.process is not None
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "workers replaced" in service.log_file.read_text(), 30, "new workers")
        wait_for(lambda: not old & set(service.processes()), 30, "the end of the old ones")
        wait_for(lambda: len(service.pids_of("oton-inspect")) == 1, 20, "one inspector")
        assert is_stamped(shop)
