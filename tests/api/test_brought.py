"""What an order brings back is judged as an upload of it would be: an earlier release is a spec, too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.plan.situation import Rollout, Standing, Wanted
from controller.spec.digest import digest_spec
from tests.api.stage import Stage, a_release, a_spec, answering
from tests.api.test_apps import wait_for
from tests.api.test_streams import wire
from tests.api.test_tokens import REFUSED, Bearer, a_server

VERBS = ("rollback", "unpin", "promote", "abort", "retry", "restart", "resume")
BEYOND = [fields for fields, _ in REFUSED if "strategy" not in fields]
SOCKET = {"volumes": ["/var/run/docker.sock:/s"]}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path, settings=a_server()).open() as opened:
        opened.plays = {verb: answering("done") for verb in VERBS}
        yield opened


@pytest.fixture
def deploy(stage: Stage) -> httpx.Auth:
    return Bearer(stage.store.tokens.create("ci", scope="deploy", apps=["shop"])[0])


def ask_file(stage: Stage, **fields: Any) -> None:
    """Have the app's file ask for something that does not serve."""
    spec = a_spec(**fields)
    wanted = Wanted(spec=spec, digest=digest_spec(spec), file="desired/shop.yaml")
    stage.directory.known["shop"] = Standing(app="shop", wanted=wanted, file=wanted.file)


def taken_away(stage: Stage, fields: dict[str, Any]) -> None:
    stage.bring_up(**fields)
    stage.bring_up()


def given_up_by_rollback(stage: Stage, fields: dict[str, Any]) -> None:
    from controller.plan.situation import Pin

    stage.bring_up()
    ask_file(stage, **fields)
    wanted = stage.directory.standing("shop").wanted
    assert wanted is not None
    memory = replace(stage.store.load("shop")[0], pin=Pin(release=1, digest=wanted.digest))
    stage.decide("shop", memory=memory)


def rolling_out(stage: Stage, fields: dict[str, Any], **rollout: Any) -> None:
    stage.bring_up()
    ask_file(stage, **fields)
    memory = stage.store.load("shop")[0]
    release = a_release(2, a_spec(**fields), started=stage.clock.now())
    going = Rollout(release=2, previous=1, phase="waiting", waits_for="promotion", **rollout)
    stage.decide("shop", memory=replace(memory, last_release=2, rollout=going), releases=[release])


def switched_away(stage: Stage, fields: dict[str, Any]) -> None:
    stage.bring_up(**fields)
    ask_file(stage)
    memory = stage.store.load("shop")[0]
    release = a_release(2, a_spec(), started=stage.clock.now())
    going = Rollout(release=2, previous=1, phase="draining", switched=stage.clock.now())
    stage.decide("shop", memory=replace(memory, last_release=2, live=2, rollout=going), releases=[release])


def failed(stage: Stage, fields: dict[str, Any]) -> None:
    stage.bring_up()
    ask_file(stage, **fields)
    memory = stage.store.load("shop")[0]
    release = a_release(2, a_spec(**fields), outcome="failed")
    stage.decide("shop", memory=replace(memory, last_release=2, failed=2), releases=[release])


def pinned_back(stage: Stage, fields: dict[str, Any]) -> None:
    stage.bring_up(**fields)
    ask_file(stage)
    stage.decide("shop")


def suspended(stage: Stage, fields: dict[str, Any]) -> None:
    stage.bring_up()
    ask_file(stage, **fields)
    stage.decide("shop", memory=replace(stage.store.load("shop")[0], suspended=True))


Story = Callable[[Stage, dict[str, Any]], None]
ORDERS: list[tuple[str, Any, Story]] = [
    ("rollback", {"to": 1}, taken_away),
    ("rollback", None, taken_away),
    ("unpin", None, given_up_by_rollback),
    ("promote", None, rolling_out),
    ("abort", None, switched_away),
    ("retry", None, failed),
    ("restart", None, pinned_back),
    ("resume", None, suspended),
]
IDS = [f"{verb}{' --to' if body else ''}" for verb, body, _ in ORDERS]


@pytest.mark.parametrize(("verb", "body", "story"), ORDERS, ids=IDS)
def test_no_order_brings_back_what_its_giver_could_not_upload(
    stage: Stage, client: httpx.Client, deploy: httpx.Auth, verb: str, body: Any, story: Story
) -> None:
    story(stage, SOCKET)
    answer = client.post(f"/v1/apps/shop/{verb}", json=body, auth=deploy)
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/not-allowed"), answer.text
    assert answer.json()["fields"] == ["volumes[0]"]
    assert stage.store.load("shop")[2] == (), "no order was stored"
    assert client.post(f"/v1/apps/shop/{verb}", json=body).status_code == 202, "an administrator may"


@pytest.mark.parametrize("fields", BEYOND, ids=str)
def test_a_rollback_is_judged_in_every_field_that_an_upload_is(
    stage: Stage, client: httpx.Client, deploy: httpx.Auth, fields: dict[str, Any]
) -> None:
    taken_away(stage, fields)
    text = json.dumps(
        {"name": "shop", "image": "shop:1", "port": 8000, "routes": [{"host": "shop.example.com"}]} | fields
    )
    upload = client.put("/v1/apps/shop/spec", content=text, auth=deploy)
    back = client.post("/v1/apps/shop/rollback", json={"to": 1}, auth=deploy)
    assert upload.status_code == back.status_code == 403
    assert upload.json()["problems"] == back.json()["problems"]


@pytest.mark.parametrize(("verb", "body", "story"), ORDERS, ids=IDS)
def test_what_its_giver_could_upload_comes_back(
    stage: Stage, client: httpx.Client, deploy: httpx.Auth, verb: str, body: Any, story: Story
) -> None:
    story(stage, {"image": "shop:0"})
    assert client.post(f"/v1/apps/shop/{verb}", json=body, auth=deploy).status_code == 202


def test_what_is_in_force_may_be_restarted(stage: Stage, client: httpx.Client, deploy: httpx.Auth) -> None:
    stage.bring_up(**SOCKET)
    assert client.post("/v1/apps/shop/restart", auth=deploy).status_code == 202


def test_before_the_switch_an_abort_brings_nothing_back(stage: Stage, client: httpx.Client, deploy: httpx.Auth) -> None:
    rolling_out(stage, SOCKET)
    assert client.post("/v1/apps/shop/abort", auth=deploy).status_code == 202


@pytest.mark.parametrize("story", [taken_away, switched_away, failed])
def test_a_one_off_of_a_release_is_judged_likewise(stage: Stage, story: Story) -> None:
    story(stage, SOCKET)
    number = 2 if story is failed else 1
    secret = stage.store.tokens.create("ci", scope="deploy", apps=["shop"])[0]

    def run(**headers: str) -> dict[str, Any]:
        from controller.cli.dial import open_socket
        from controller.cli.target import Target
        from controller.cli.wire import Wire

        sock = open_socket(Target(kind="unix", place=str(stage.socket)), 5.0)
        connection = Wire(sock, "oton", "/v1/apps/shop/run", headers)
        connection.send(json.dumps({"command": ["cat"], "release": number}))
        first = connection.receive()
        connection.close()
        return json.loads(first) if isinstance(first, str) else {}

    ended = run(Authorization=f"Bearer {secret}")
    assert ended["exit"] == 125
    assert "docker.sock" in ended["error"]
    assert stage.engine.plans == []
    connection = wire(stage, "/v1/apps/shop/run")
    connection.send(json.dumps({"command": ["cat"], "release": number}))
    assert connection.receive() == b"\x02to stderr\n"
    connection.close()


def test_an_administrator_of_one_app_is_bounded_like_any_other_limited_token(
    stage: Stage, client: httpx.Client
) -> None:
    old = Bearer(stage.store.tokens.create("old", scope="admin", apps=["shop"])[0])
    taken_away(stage, SOCKET)
    text = json.dumps({"name": "shop", "image": "shop:1", "volumes": ["/:/host"]})
    assert client.put("/v1/apps/shop/spec", content=text, auth=old).status_code == 403
    assert client.post("/v1/diff", content=text, auth=old).status_code == 403
    assert client.post("/v1/apps/shop/rollback", json={"to": 1}, auth=old).status_code == 403
    answer = client.post("/v1/tokens", json={"name": "new", "scope": "admin", "apps": ["shop"]})
    assert answer.status_code == 422
    assert "--scope deploy --app" in answer.json()["detail"]
    assert [one.name for one in stage.store.tokens.list()] == ["old"]


def test_an_order_carries_what_it_was_judged_by(stage: Stage, client: httpx.Client, deploy: httpx.Auth) -> None:
    taken_away(stage, {"image": "shop:0"})
    client.post("/v1/apps/shop/rollback", auth=deploy)
    client.post("/v1/apps/shop/rollback")
    wait_for(lambda: not stage.store.load("shop")[2])
    free, bound = [asked.order for asked in stage.store.answers("shop")]
    assert (bound.digest, free.digest) == (stage.store.load("shop")[1][1].digest, "")
