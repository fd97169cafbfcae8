"""The service as a whole: alive, ready, its table, its numbers, and its documentation of itself."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import threading
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.api.reference import render_reference
from controller.api.server import serve_api
from controller.api.sockets import open_socket, open_sockets
from controller.errors import Refused
from controller.plan.situation import Memory
from controller.world.model import World
from tests.api.stage import DEADLINE_S, Stage
from tests.api.test_apps import wait_for


def test_alive_and_ready(stage: Stage, client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_not_ready_says_what_is_missing(stage: Stage, client: httpx.Client) -> None:
    stage.engine.up = False
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["faults"] == ["engine"]
    assert client.get("/healthz").status_code == 200


def test_however_many_ask_whether_it_is_ready_one_thread_finds_out(stage: Stage) -> None:
    go_on, asked = threading.Event(), []

    def hang() -> bool:
        asked.append(1)
        return go_on.wait(DEADLINE_S)

    stage.engine.reachable = hang  # type: ignore[method-assign]
    look = httpx.Client(transport=httpx.HTTPTransport(uds=str(stage.socket)), base_url="http://oton", timeout=60)
    with ThreadPoolExecutor(60) as pool, look:
        waiting = [pool.submit(look.get, "/readyz") for _ in range(60)]
        wait_for(lambda: asked)
        assert look.get("/healthz").status_code == 200
        go_on.set()
        assert {one.result().status_code for one in waiting} == {200}
    assert len(asked) <= 3, "once for all that waited, and again for those that came a second later"


def test_every_answer_carries_our_version(client: httpx.Client) -> None:
    for path in ("/healthz", "/v1/apps", "/v1/nope"):
        assert client.get(path).headers["oton-version"] == "1.2.3"
    assert client.get("/v1/version").json() == {"version": "1.2.3", "api": 1, "instance": "abcdef012345"}


def test_answers_say_that_the_engine_is_away(stage: Stage, client: httpx.Client) -> None:
    assert "oton-engine" not in client.get("/v1/apps").headers
    stage.engine.up = False
    for path in ("/v1/apps", "/v1/apps/nope", "/v1/routes"):
        assert client.get(path).headers["oton-engine"] == "away"


def test_a_path_that_is_not_there_is_a_problem(client: httpx.Client) -> None:
    assert client.get("/v1/nope").json()["type"] == "/problems/no-such-path"
    answer = client.patch("/v1/apps")
    assert (answer.status_code, answer.json()["type"]) == (405, "/problems/no-such-method")
    assert answer.headers["allow"] == "GET"
    assert client.patch("/v1/apps/shop").headers["allow"] == "GET, DELETE"
    assert client.patch("/v1/apps/shop/secrets/KEY").headers["allow"] == "PUT, DELETE"


def test_the_table_is_shown_rule_by_rule(stage: Stage, client: httpx.Client) -> None:
    stage.bring_up("one", routes=[{"host": "one.example.com"}, {"host": "x.example.com", "path": "/one"}])
    stage.bring_up("two", routes=[{"host": "x.example.com"}])
    rows = client.get("/v1/routes").json()
    assert [(row["host"], row["path"], row["app"]) for row in rows] == [
        ("one.example.com", "/", "one"),
        ("x.example.com", "/one", "one"),
        ("x.example.com", "/", "two"),
    ]
    assert rows[0]["upstreams"][0] | {"id": ""} == {
        "address": "10.0.0.1:8000", "ready": True, "weight": 100.0, "release": 1, "id": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "app", "rule"),
    [
        ("http://x.example.com/one/more", "one", "/one"),
        ("https://x.example.com/oneself", "two", "/"),
        ("x.example.com", "two", "/"),
        ("http://X.EXAMPLE.com:3000/", "two", "/"),
    ],
)
def test_explain_says_which_rule_a_url_would_get(
    stage: Stage, client: httpx.Client, url: str, app: str, rule: str
) -> None:
    stage.bring_up("one", routes=[{"host": "x.example.com", "path": "/one"}])
    stage.bring_up("two", routes=[{"host": "x.example.com"}])
    row = client.get("/v1/routes/explain", params={"url": url}).json()
    assert (row["found"], row["app"], row["rule"]["path"]) == (True, app, rule)
    assert row["answer"] == "goes to one of the replicas"
    assert "x.example.com (exact)" in row["why"]


def test_explain_of_what_matches_nothing_or_cannot_be_read(stage: Stage, client: httpx.Client) -> None:
    assert client.get("/v1/routes/explain", params={"url": "http://nobody/"}).json()["answer"] == "404"
    for url in ("http://a b/", "http://x/%2f", "http://[::1", "http://x:99999999/"):
        answer = client.get("/v1/routes/explain", params={"url": url})
        assert answer.status_code == 422, url


def test_validate_says_every_problem_with_its_line(client: httpx.Client) -> None:
    row = client.post("/v1/validate", content="name: shop\nimage: x\nport: 99999\nstrategi: x\n").json()
    assert row["valid"] is False
    assert [(one["line"], one["field"]) for one in row["problems"]] == [(3, "port"), (4, "strategi")]
    assert client.post("/v1/validate", content="name: shop\nimage: x\n").json()["valid"] is True


def test_diff_says_what_changes_and_the_plan(stage: Stage, client: httpx.Client) -> None:
    stage.bring_up()
    text = "name: shop\nimage: shop:2\nport: 8000\nroutes: [{host: shop.example.com}]\nreplicas: 3\n"
    [row] = client.post("/v1/diff", content=text).json()
    assert row["release"] == 1
    assert {one["field"]: (one["old"], one["new"], one["replaces"]) for one in row["changes"]} == {
        "image": ("shop:1", "shop:2", True),
        "replicas": ("1", "3", False),
    }
    assert row["plan"] == ["start shop-r2-1"]
    same = text.replace("shop:2", "shop:1").replace("replicas: 3\n", "")
    [row] = client.post("/v1/diff", content=same).json()
    assert (row["changes"], row["plan"]) == ([], [])


def test_metrics_are_prometheus_own_words(stage: Stage, client: httpx.Client) -> None:
    stage.bring_up(replicas=2)
    stage.publisher.meters = {
        "requests": [
            {"app": "shop", "release": 1, "class": 2, "count": 3, "seconds": 0.5, "bytes_in": 1, "bytes_out": 2,
             "buckets": [1, 1, 1]},
        ],
        "bounds": [0.1, 1.0],
        "events": [{"app": "shop", "what": "retry", "count": 2}],
        "active": [{"app": "shop", "requests": 4, "held": 0}],
        "connections": 7,
        "lag_s": 0.01,
    }  # fmt: skip
    text = client.get("/metrics").text
    for line in (
        'oton_app_replicas_ready{app="shop"} 2.0',
        'oton_app_health{app="shop",health="healthy"} 1.0',
        'oton_app_sync{app="shop",sync="synced"} 1.0',
        'oton_requests_total{app="shop",class="2xx",release="1"} 3.0',
        'oton_request_seconds_bucket{app="shop",class="2xx",le="1.0",release="1"} 2.0',
        'oton_request_seconds_bucket{app="shop",class="2xx",le="+Inf",release="1"} 3.0',
        'oton_proxy_events_total{app="shop",event="retry"} 2.0',
        'oton_requests_active{app="shop"} 4.0',
        "oton_proxy_connections 7.0",
        "oton_engine_up 1.0",
    ):
        assert line in text, text


def test_doctor_says_how_to_mend(client: httpx.Client) -> None:
    assert client.get("/v1/doctor").json()[0] == {"check": "engine", "state": "ok", "text": "Docker 20.10", "mend": ""}


def test_the_documentation_of_the_api_is_there(client: httpx.Client) -> None:
    document = client.get("/v1/openapi.json").json()
    assert document["security"] == [{"token": []}]
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert [path for path, found in document["paths"].items() if found.get("get", {}).get("security") == []] == [
        "/healthz",
        "/readyz",
    ]
    paths = set(document["paths"])
    for path in (
        "/v1/apps", "/v1/apps/{app}", "/v1/apps/{app}/spec", "/v1/apps/{app}/releases",
        "/v1/apps/{app}/releases/{number}", "/v1/apps/{app}/logs", "/v1/validate", "/v1/diff", "/v1/events",
        "/v1/routes", "/v1/routes/explain", "/v1/doctor", "/v1/version", "/healthz", "/readyz", "/metrics",
        *(f"/v1/apps/{{app}}/{verb}" for verb in (
            "rollback", "unpin", "promote", "abort", "retry", "suspend", "resume", "restart", "maintenance")),
    ):  # fmt: skip
        assert path in paths


class Seen(HTMLParser):
    """What a page holds, as far as a browser would act on it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_of_the_api_needs_no_script_and_no_other_host(client: httpx.Client) -> None:
    answer = client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Seen(answer.text)
    assert not {"script", "link", "img", "iframe", "form", "object"} & set(page.tags)
    assert all(link.startswith(("#", "/v1/")) for link in page.links)
    assert "http://" not in answer.text.replace("http://oton", "")
    assert "https://" not in answer.text
    policy = answer.headers["content-security-policy"]
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'")
    assert f"'sha256-{digest}'" in policy
    document = client.get("/v1/openapi.json").json()
    for path, operations in document["paths"].items():
        for method in operations:
            assert f"{method.upper()} {path}" in page.words
    for name in document["components"]["schemas"]:
        assert name in page.words


def test_whatever_the_document_says_is_text_on_its_page() -> None:
    hostile = "<script>alert(1)</script>"
    schema = {"type": "object", "description": hostile, "properties": {hostile: {"enum": [hostile]}}}
    content = {hostile: {"schema": schema, "example": {hostile: hostile}}}
    operation = {
        "summary": hostile,
        "tags": [hostile],
        "parameters": [{"name": hostile, "in": hostile, "description": hostile, "schema": {"pattern": hostile}}],
        "requestBody": {"description": hostile, "content": content},
        "responses": {hostile: {"description": hostile, "content": content}},
    }
    page = render_reference(
        {
            "info": {"title": hostile, "version": hostile, "summary": hostile},
            "paths": {hostile: {"get": operation}},
            "components": {"schemas": {hostile: schema}},
        }
    )
    assert "script" not in Seen(page).tags
    assert hostile not in page


def test_the_documentation_says_what_each_success_looks_like(client: httpx.Client) -> None:
    paths = client.get("/v1/openapi.json").json()["paths"]
    shown = {
        (method, path, status): list(answer.get("content", {}))
        for path, operations in paths.items()
        for method, operation in operations.items()
        for status, answer in operation["responses"].items()
        if status != "default"
    }
    assert [key for key, types in shown.items() if not types] == [("delete", "/v1/apps/{app}/secrets/{key}", "204")]
    assert {key[1]: types for key, types in shown.items() if types != ["application/json"] and types} == {
        "/metrics": ["text/plain"],
        "/v1/backup": ["application/gzip"],
        "/v1/apps/{app}/logs": ["application/x-ndjson"],
        "/v1/events": ["application/json", "text/event-stream"],
    }


def test_how_an_app_stands_is_the_first_word_that_applies(stage: Stage, client: httpx.Client) -> None:
    from dataclasses import replace

    stage.bring_up()
    memory = stage.store.load("shop")[0]

    def row(**fields: Any) -> Any:
        stage.decide("shop", memory=replace(memory, **fields))
        return client.get("/v1/apps/shop").json()

    assert row(failed=1)["conditions"] == ["failed"]
    held = row(held="what runs differs from the file", failed=1)
    assert (held["sync"], held["conditions"]) == ("held", ["held", "failed"])
    assert held["message"].endswith("to continue: oton retry shop")
    suspended = row(suspended=True, held="x")
    assert (suspended["sync"], suspended["message"]) == ("suspended", "suspended; to resume: oton resume shop")
    assert row(maintenance="back soon")["maintenance"] is True


def test_health_is_unknown_without_the_engine_and_down_without_a_ready_replica(
    stage: Stage, client: httpx.Client
) -> None:
    from dataclasses import replace

    from controller.world.model import Verdict

    stage.bring_up(replicas=2)
    world = stage.worlds["shop"]
    one, two = world.replicas

    def health(**fields: Any) -> str:
        stage.decide("shop", world=replace(world, **fields))
        return str(client.get("/v1/apps/shop").json()["health"])

    assert health() == "healthy"
    assert health(engine_up=False) == "unknown"
    assert health(verdicts={one.id: Verdict(ready=True), two.id: Verdict()}) == "degraded"
    assert health(verdicts={}) == "degraded", "those that still accept stay routed"
    assert health(replicas=(), verdicts={}, routing=replace(world.routing, confirmed=None, published=None)) == "down"


def test_an_app_that_never_ran_is_down_and_progressing(stage: Stage, client: httpx.Client) -> None:
    from tests.api.stage import a_spec
    from tests.builders import a_standing

    stage.directory.known["shop"] = a_standing(a_spec())
    stage.decide("shop", memory=Memory(), world=World())
    row = client.get("/v1/apps/shop").json()
    assert (row["sync"], row["health"], row["release"], row["replicas"]["wanted"]) == ("progressing", "down", None, 1)


def test_an_app_whose_file_was_never_usable_is_down(stage: Stage, client: httpx.Client) -> None:
    from tests.builders import a_standing

    stage.directory.known["shop"] = a_standing(None, invalid="3: replicas: not a number")
    stage.decide("shop", memory=Memory(), world=World())
    row = client.get("/v1/apps/shop").json()
    assert (row["sync"], row["health"]) == ("invalid", "down")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_socket_is_for_its_owner_alone_where_there_is_no_group(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("controller.api.sockets.find_group", lambda: None)
    place = tmp_path / "run" / "oton" / "oton.sock"
    with open_socket(place):
        assert (mode(place), mode(place.parent)) == (0o600, 0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to a group")
def test_the_socket_is_open_to_its_group(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("controller.api.sockets.find_group", lambda: 12345)
    place = tmp_path / "oton" / "oton.sock"
    with open_socket(place):
        assert (mode(place), mode(place.parent)) == (0o660, 0o750)
        assert place.stat().st_gid == place.parent.stat().st_gid == 12345


def test_a_folder_of_others_keeps_its_rights(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    with open_socket(folder / "oton.sock"):
        assert mode(folder) == 0o755


def test_a_socket_that_nobody_answers_on_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    place = tmp_path / "oton.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place))
    with open_socket(place), pytest.raises(Refused, match="another service answers"):
        open_socket(place)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "precious"
    place.write_text("data")
    with pytest.raises(Refused, match="is no socket"):
        open_socket(place)
    assert place.read_text() == "data"


def test_a_service_that_ends_takes_its_socket_away_and_no_other(stage: Stage, tmp_path: Path) -> None:
    place = tmp_path / "run" / "oton.sock"
    stop = threading.Event()
    stop.set()
    serve_api(stage.parts, open_sockets(place, None, lambda host: tmp_path), stop)
    assert not place.exists()
    listening = open_sockets(place, None, lambda host: tmp_path)
    place.unlink()
    with open_socket(place):
        serve_api(stage.parts, listening, stop)
        assert place.exists(), "another service has put its own there"
