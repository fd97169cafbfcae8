"""What is seen is right: after an event, after an operation of ours, after a lost event, beside one that hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from controller.engine import sight as room
from controller.engine.calls import Calls
from controller.engine.sight import Sight
from controller.engine.translate import Place, render_container
from controller.errors import Retry
from tests.engine.kit import a_plan, wait_for
from tests.engine.sham import Call, Sham, a_sham


class Fleet:
    """Containers of a sham engine, and a sight on them."""

    def __init__(self, sham: Sham) -> None:
        self.sham = sham
        self.states: dict[str, str] = {}
        self.apps: dict[str, str] = {}
        self.status: dict[str, str] = {}
        self.memory = 0
        sham.on("GET .*/info", lambda call: call.reply(200, {"MemoryLimit": True}))
        sham.on("GET .*/containers/json", lambda call: call.reply(200, self._list(call)))
        sham.on("GET .*/containers/[a-z0-9]+/json", self._inspect)
        self.sight = Sight(Calls(sham.host), "me")

    def have(self, key: str, app: str = "shop", state: str = "running") -> None:
        self.states[key], self.apps[key] = state, app

    def labels(self, key: str) -> dict[str, str]:
        plan = a_plan(self.apps[key], index=int(key[1:]))
        labels: dict[str, str] = render_container(plan, "me", Place(network="oton", address=None))["Labels"]
        return labels

    def _list(self, call: Call) -> list[dict[str, Any]]:
        return [
            {
                "Id": key,
                "Names": [f"/{key}"],
                "Labels": self.labels(key),
                "State": state,
                "Status": self.status.get(key, "Up 3 seconds"),
                "NetworkSettings": {"Networks": {"oton": {"IPAddress": "10.0.0.2"}}},
            }
            for key, state in self.states.items()
            if f"oton.app%3D{self.apps[key]}" in call.line or "oton.app" not in call.line
        ]

    def _inspect(self, call: Call) -> None:
        key = call.line.split("/")[-2]
        if key not in self.states:
            call.reply(404, {"message": f"No such container: {key}"})
            return
        call.reply(200, self.inspection(key))

    def inspection(self, key: str) -> dict[str, Any]:
        return {
            "Id": key,
            "Name": f"/{key}",
            "State": {"Status": self.states[key], "ExitCode": 3},
            "Config": {"Labels": self.labels(key)},
            "HostConfig": {"Memory": self.memory},
            "NetworkSettings": {"Networks": {"oton": {"IPAddress": "10.0.0.2"}}},
        }

    def inspections(self) -> int:
        return len(self.sham.lines("GET .*/containers/[a-z0-9]+/json"))


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with a_sham() as sham:
        yield Fleet(sham)


def test_what_did_not_change_is_inspected_once(fleet: Fleet) -> None:
    fleet.have("c1")
    fleet.have("c2")
    for _ in range(5):
        assert [one.id for one in fleet.sight.observe("shop")] == ["c1", "c2"]
    assert fleet.inspections() == 2


def test_after_a_doubt_it_is_inspected_anew(fleet: Fleet) -> None:
    fleet.have("c1")
    fleet.sight.observe("shop")
    fleet.memory = 5
    assert fleet.sight.observe("shop")[0].drift == ""
    fleet.sight.doubt("c1")
    assert "memory limit 5" in fleet.sight.observe("shop")[0].drift


@pytest.mark.parametrize("change", ["state", "health"])
def test_a_list_that_says_otherwise_makes_up_for_a_lost_event(fleet: Fleet, change: str) -> None:
    fleet.have("c1")
    fleet.sight.observe("shop")
    if change == "state":
        fleet.states["c1"] = "exited"
        assert fleet.sight.observe("shop")[0].state == "exited"
    else:
        fleet.status["c1"] = "Up 4 seconds (unhealthy)"
        fleet.sight.observe("shop")
    assert fleet.inspections() == 2
    fleet.status["c1"] = fleet.status.get("c1", "Up 3 seconds").replace("4", "9")
    fleet.sight.observe("shop")
    assert fleet.inspections() == 2


def test_what_the_list_cannot_show_is_found_by_age(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "KEEP_S", 0.05)
    fleet.have("c1")
    fleet.sight.observe("shop")
    fleet.memory = 5
    wait_for(lambda: fleet.sight.observe("shop")[0].drift)


def test_an_event_while_we_inspect_is_not_overwritten_by_what_we_saw(fleet: Fleet) -> None:
    fleet.have("c1")

    def late(call: Call) -> None:
        seen = fleet.inspection("c1")
        fleet.memory = 5
        fleet.sight.doubt("c1")  # the event arrives before the older answer does
        call.reply(200, seen)

    fleet.sham.on("GET .*/containers/c1/json", late)
    fleet.sight.observe("shop")
    fleet.sham.on("GET .*/containers/c1/json", fleet._inspect)
    assert "memory limit" in fleet.sight.observe("shop")[0].drift


def test_one_that_vanishes_between_list_and_inspection_is_not_there(fleet: Fleet) -> None:
    fleet.have("c1")
    fleet.have("c2")
    fleet.sham.on("GET .*/containers/c1/json", lambda call: call.reply(404, {"message": "No such container: c1"}))
    assert [one.id for one in fleet.sight.observe("shop")] == ["c2"]
    assert [one.id for one in fleet.sight.observe_all()["shop"]] == ["c2"]


def test_one_that_hangs_makes_only_its_own_app_wait(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "HANG_S", 0.3)
    monkeypatch.setattr(room, "READ_S", 0.5)
    for number in range(1, 6):
        fleet.have(f"c{number}", app="shop" if number == 1 else f"other{number}")
    let_go, asked, answered = threading.Event(), [], []

    def hang(call: Call) -> None:
        asked.append(call)
        let_go.wait(20)
        answered.append(call)
        call.hang_up()

    fleet.sham.on("GET .*/containers/c1/json", hang)
    everything = fleet.sight.observe_all()
    assert not answered
    before = len(asked)
    assert sorted(everything) == ["other2", "other3", "other4", "other5", "shop"]
    assert (everything["shop"][0].state, everything["shop"][0].release) == ("running", 1)
    fleet.sight.observe_all()
    assert fleet.sight.observe("other2")
    assert len(asked) == before, "it is not asked again at once"
    with pytest.raises(Retry):
        fleet.sight.observe("shop")
    let_go.set()


def test_a_frozen_engine_is_not_mistaken_for_one_that_hangs(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "HANG_S", 0.2)
    monkeypatch.setattr("controller.engine.calls.PING_S", 0.2)
    fleet.have("c1")
    fleet.sight.listed()
    let_go = threading.Event()

    def hang(call: Call) -> None:
        let_go.wait(20)
        call.hang_up()

    fleet.sham.on("GET .*/containers/c1/json", hang)
    fleet.sham.on("/_ping", hang)
    with pytest.raises(Retry):
        fleet.sight.observe_all()
    let_go.set()


def test_containers_that_are_gone_leave_no_trace(fleet: Fleet) -> None:
    for number in range(1, 40):
        fleet.have(f"c{number}")
    fleet.sight.observe_all()
    for number in range(1, 40):
        fleet.sight.doubt(f"c{number}")
    fleet.states.clear()
    assert fleet.sight.observe_all() == {}
    assert not fleet.sight._kept
    assert not fleet.sight._doubts
    assert not fleet.sight._ours


def test_a_resync_of_many_apps_shares_one_list(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SHARE_S", 5.0)
    for number in range(1, 41):
        fleet.have(f"c{number}", app=f"app{number}")
    fleet.sight.is_followed = True
    fleet.sight._doubted_at = -100.0
    fleet.sight.observe_all()
    lists = len(fleet.sham.lines("containers/json"))
    for number in range(1, 41):
        assert [one.id for one in fleet.sight.observe(f"app{number}")] == [f"c{number}"]
    assert len(fleet.sham.lines("containers/json")) - lists == room.CROWD


@pytest.mark.parametrize("why", ["an event came", "nobody follows the events"])
def test_a_shared_list_is_used_only_while_it_cannot_mislead(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(room, "SHARE_S", 5.0)
    for number in range(1, 11):
        fleet.have(f"c{number}", app=f"app{number}")
    fleet.sight.is_followed = why == "an event came"
    fleet.sight._doubted_at = -100.0
    for number in range(1, 11):
        fleet.sight.observe(f"app{number}")
    fleet.states["c9"] = "exited"
    if why == "an event came":
        fleet.sight.doubt("c3")
    assert fleet.sight.observe("app9")[0].state == "exited"


def test_looking_at_hundreds_again_costs_one_list(fleet: Fleet) -> None:
    for number in range(1, 201):
        fleet.have(f"c{number}", app=f"app{number % 50}")
    fleet.sight.observe_all()
    seen = len(fleet.sham.calls)
    assert len(fleet.sight.observe_all()) == 50
    assert len(fleet.sham.calls) == seen + 1
