"""The API of apps: reads from the views, changes as orders under a number."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.stage import DEADLINE_S, Stage, answering, removing, rolling_out

SPEC = """\
name: shop
image: shop:2
port: 8000
routes:
  - host: shop.example.com
"""


def wait_for(look: Callable[[], Any]) -> Any:
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it never came")


def test_a_row_says_what_the_contract_says_it_says(stage: Stage, client: httpx.Client) -> None:
    stage.bring_up(replicas=2)
    [row] = client.get("/v1/apps").json()
    assert row | {"since": None, "change": 0} == {
        "app": "shop",
        "sync": "synced",
        "conditions": ["synced"],
        "health": "healthy",
        "release": 1,
        "image": "shop:1",
        "target": None,
        "replicas": {"wanted": 2, "ready": 2, "routed": 2},
        "strategy": "rolling",
        "phase": "live",
        "step": None,
        "maintenance": False,
        "file": "desired/shop.yaml",
        "message": "",
        "since": None,
        "change": 0,
    }


def test_a_list_of_apps_asks_neither_the_engine_nor_waits(stage: Stage, client: httpx.Client) -> None:
    for number in range(100):
        stage.bring_up(f"app-{number}", routes=[{"host": f"{number}.example.com"}])
    client.get("/v1/apps")
    began = time.process_time()
    assert len(client.get("/v1/apps").json()) == 100
    took = time.process_time() - began
    assert stage.engine.calls == 0
    assert took < 0.2, f"{took * 1000:.0f} ms"


def test_one_app_has_its_replicas_and_routes(stage: Stage, client: httpx.Client) -> None:
    stage.bring_up(replicas=2)
    view = client.get("/v1/apps/shop").json()
    assert [one["name"] for one in view["replicas_list"]] == ["shop-r1-1", "shop-r1-2"]
    assert all(one["ready"] and one["routed"] for one in view["replicas_list"])
    [route] = view["routes"]
    assert (route["host"], route["path"], route["app"], route["release"]) == ("shop.example.com", "/", "shop", 1)
    assert [one["weight"] for one in route["upstreams"]] == [50.0, 50.0]
    assert view["last_rollout"] == {"release": 1, "outcome": "live", "message": ""}


def test_an_unknown_app_is_a_problem(client: httpx.Client) -> None:
    answer = client.get("/v1/apps/nope")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/no-such-app"
    assert client.delete("/v1/apps/nope").status_code == 404
    assert client.post("/v1/apps/nope/restart").status_code == 404


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "UPPER", "a" * 41, "%00", "a%20b", "-x"])
def test_an_odd_name_is_refused_before_it_becomes_a_file(client: httpx.Client, name: str) -> None:
    answer = client.put(f"/v1/apps/{name}/spec", content=SPEC)
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_upload_is_accepted_under_the_number_that_its_order_is_answered_by(
    stage: Stage, client: httpx.Client
) -> None:
    stage.plays["apply"] = rolling_out()
    answer = client.put("/v1/apps/shop/spec", content=SPEC)
    assert answer.status_code == 202
    accepted = answer.json()
    assert accepted["app"] == "shop"
    assert accepted["file"] == "desired/shop.yaml"
    assert accepted["digest"]

    view = wait_for(lambda: (view := client.get("/v1/apps/shop").json())["release"] and view)
    assert view["change"] >= accepted["change"]
    [order] = view["orders"]
    assert (order["change"], order["verb"], order["result"], order["release"]) == (
        accepted["change"],
        "apply",
        "release",
        1,
    )
    asked = client.get(f"/v1/apps/shop/orders/{accepted['change']}").json()
    assert (asked["state"], asked["result"], asked["release"]) == ("answered", "release", 1)


def test_changes_only_grow(stage: Stage, client: httpx.Client) -> None:
    stage.bring_up()
    stage.plays["restart"] = answering("done")
    changes = [client.post("/v1/apps/shop/restart").json()["change"] for _ in range(5)]
    assert changes == sorted(set(changes))


def test_a_bad_spec_is_refused_with_every_problem(client: httpx.Client) -> None:
    answer = client.put("/v1/apps/shop/spec", content="name: shop\nimage: x\nstrategi: rolling\nreplicas: many\n")
    assert answer.status_code == 422
    assert len(answer.json()["problems"]) == 2
    assert "shop.yaml:3" in answer.text
    assert "did you mean" in answer.text


@pytest.mark.parametrize("body", [b"", b"   \n", b"\xff\xfe", b"name: [", b"- 1"])
def test_a_body_that_is_no_spec_is_refused(client: httpx.Client, body: bytes) -> None:
    assert client.put("/v1/apps/shop/spec", content=body).status_code == 422


def test_a_body_that_is_too_large_is_refused(client: httpx.Client) -> None:
    big = b"#" * (1024**2 + 1)
    assert client.put("/v1/apps/shop/spec", content=big).status_code == 413
    assert client.put("/v1/apps/shop/spec", content=iter([big])).status_code == 413
    assert client.post("/v1/apps/shop/rollback", content=b" " * (3 * 1024**2)).status_code == 413


def test_releases_are_newest_first_with_their_steps(stage: Stage, client: httpx.Client) -> None:
    stage.bring_up()
    stage.bring_up(image="shop:2")
    rows = client.get("/v1/apps/shop/releases").json()
    assert [row["release"] for row in rows] == [2, 1]
    assert rows[0]["started"].endswith("Z")
    assert rows[0]["duration_s"] >= 0
    one = client.get("/v1/apps/shop/releases/2").json()
    assert one["spec"]["image"] == "shop:2"
    assert one["steps"] == []
    assert client.get("/v1/apps/shop/releases/9").json()["type"] == "/problems/no-such-release"


def test_orders_carry_what_was_asked(stage: Stage, client: httpx.Client) -> None:
    stage.bring_up()
    stage.plays = {"rollback": answering("done"), "maintenance": answering("done")}
    client.post("/v1/apps/shop/rollback", json={"to": 3})
    client.post("/v1/apps/shop/maintenance", json={"on": True, "message": "back at 5"})
    wait_for(lambda: not stage.store.load("shop")[2])
    rollback, maintenance = reversed([asked.order for asked in stage.store.answers("shop")])
    assert (rollback.to, maintenance.on, maintenance.message) == (3, True, "back at 5")


def test_a_wrong_order_body_says_which_field(stage: Stage, client: httpx.Client) -> None:
    stage.bring_up()
    answer = client.post("/v1/apps/shop/rollback", json={"too": 3})
    assert answer.status_code == 422
    assert "too" in answer.json()["detail"]


def test_every_change_leaves_an_audit_row_with_the_peers_user(stage: Stage, client: httpx.Client) -> None:
    import getpass

    stage.bring_up()
    stage.plays["suspend"] = answering("done")
    client.post("/v1/apps/shop/suspend")
    client.post("/v1/apps/nope/suspend")
    refused, accepted = stage.store.audit.list()
    assert (accepted.verb, accepted.app, accepted.by) == ("suspend", "shop", getpass.getuser())
    assert accepted.outcome.startswith("accepted")
    assert (refused.app, refused.outcome) == ("nope", "refused: nope: no such app")


def test_a_deleted_app_is_gone_but_its_history_is_not(stage: Stage, client: httpx.Client) -> None:
    stage.bring_up()
    stage.plays["delete"] = removing
    assert client.delete("/v1/apps/shop").status_code == 202
    wait_for(lambda: client.get("/v1/apps/shop").status_code == 404)
    assert client.get("/v1/apps").json() == []
    assert [row["release"] for row in client.get("/v1/apps/shop/releases").json()] == [1]


def test_ten_clients_at_once_lose_nothing(stage: Stage) -> None:
    from concurrent.futures import ThreadPoolExecutor

    stage.plays["apply"] = answering("unchanged")

    def apply(number: int) -> int:
        with stage.client() as own:
            text = SPEC.replace("shop:2", f"shop:{number}").replace("name: shop", f"name: app-{number % 3}")
            return int(own.put(f"/v1/apps/app-{number % 3}/spec", content=text).json()["change"])

    with ThreadPoolExecutor(10) as pool:
        changes = list(pool.map(apply, range(40)))
    assert len(set(changes)) == 40
    wait_for(lambda: all(not stage.store.load(f"app-{number}")[2] for number in range(3)))


def test_files_whose_app_cannot_be_told_have_a_row(stage: Stage, client: httpx.Client) -> None:
    from types import SimpleNamespace

    stage.directory.lost.append(SimpleNamespace(file="desired/x.yaml", text="desired/x.yaml:1: found a list"))
    [row] = client.get("/v1/apps").json()
    assert (row["app"], row["sync"], row["file"]) == (None, "invalid", "desired/x.yaml")
    assert "found a list" in row["message"]
