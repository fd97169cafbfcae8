"""401, then 403, then the body: for every route, and nothing of a body is waited for before."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from controller.api.rights import OWN, PUBLIC, Guarded, Right
from controller.api.server import BODY_LIMIT_BYTES
from tests.api.stage import DEADLINE_S, Stage
from tests.api.test_tokens import Bearer, a_server, ask, serving

HOSTILE = [b"[" * 100_000, b"{", b"\xff\xfe", b'{"to": ' + b"9" * 5000 + b"}", b"null", b'"x"', b"[]"]
FILLED = {"app": "shop", "number": "1", "change": "1", "key": "KEY", "host": "x.example.com", "name": "x"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stage"), settings=a_server()).open() as opened:
        for app in ("shop", "other"):
            opened.bring_up(app, routes=[{"host": f"{app}.example.com"}])
        yield opened


@pytest.fixture(scope="module")
def tcp(stage: Stage) -> Iterator[str]:
    with serving(stage) as url:
        yield url


def every_route(stage: Stage) -> list[tuple[str, str, Any]]:
    """Return method, path and right of every route, from the router itself: also what the document leaves out."""
    found = []
    for route in stage.api.state.routes:
        if isinstance(route, APIRoute):
            assert isinstance(route, Guarded), route.path
            found += [(method, route.path, route.right) for method in sorted(route.methods)]
    assert len(found) > 40
    return found


def fill(path: str, **fields: str) -> str:
    for name, value in (FILLED | fields).items():
        path = path.replace(f"{{{name}:path}}", value).replace(f"{{{name}}}", value)
    return path


def ask_head(tcp: str, method: str, path: str, auth: Bearer | None, length: int = 1000) -> tuple[int, Any]:
    """Send a head that promises a body, and never the body; return the answer."""
    host, _, port = tcp.removeprefix("http://").partition(":")
    shown = f"Authorization: Bearer {auth.secret}\r\n" if auth is not None else ""
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as sock:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{shown}Content-Type: application/json\r\n"
        sock.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
        with sock.makefile("rb") as file:
            status = int(file.readline().split()[1])
            headers = dict(line.decode().rstrip().lower().split(": ", 1) for line in iter(file.readline, b"\r\n"))
            return status, json.loads(file.read(int(headers["content-length"])))


def make(stage: Stage, **fields: Any) -> Bearer:
    return Bearer(stage.store.tokens.create(f"t{len(stage.store.tokens.list())}", **fields)[0])


def test_without_a_token_no_route_waits_for_a_body(stage: Stage, tcp: str) -> None:
    for method, path, right in every_route(stage):
        if right != PUBLIC:
            status, problem = ask_head(tcp, method, fill(path), None)
            assert (status, problem["type"]) == (401, "/problems/no-token"), (method, path)


@pytest.mark.parametrize("scope", ["read", "deploy"])
def test_without_the_scope_no_route_waits_for_a_body(stage: Stage, tcp: str, scope: Any) -> None:
    auth = make(stage, scope=scope)
    rank = ["read", "deploy", "admin"]
    for method, path, right in every_route(stage):
        if isinstance(right, Right) and rank.index(right.scope) > rank.index(scope):
            status, problem = ask_head(tcp, method, fill(path), auth)
            assert (status, problem["type"]) == (403, "/problems/scope"), (method, path)


def test_for_a_foreign_app_no_route_waits_for_a_body(stage: Stage, tcp: str) -> None:
    auth = make(stage, scope="deploy", apps=["shop"])
    checked = 0
    for method, path, right in every_route(stage):
        if "{app}" in path or (isinstance(right, Right) and right.whole):
            status, _ = ask_head(tcp, method, fill(path, app="other"), auth)
            assert status == 403, (method, path)
            checked += 1
    assert checked > 20


def test_a_sync_that_is_not_signed_waits_for_no_body(stage: Stage, tcp: str) -> None:
    assert [path for _, path, right in every_route(stage) if right == OWN] == ["/v1/sync"]
    assert ask_head(tcp, "POST", "/v1/sync", make(stage, scope="read"))[0] == 403


@pytest.mark.parametrize("body", HOSTILE, ids=lambda body: body[:12])
def test_a_body_that_cannot_be_read_is_a_422_and_only_for_who_may_send_it(stage: Stage, tcp: str, body: bytes) -> None:
    admin, reader = make(stage, scope="admin"), make(stage, scope="read", apps=["shop"])
    json_too = {"Content-Type": "application/json"}
    for method, path, _ in every_route(stage):
        route = next(one for one in stage.api.state.routes if isinstance(one, Guarded) and one.path == path)
        if route.body_field is None or method not in ("POST", "PUT"):
            continue
        foreign = ask(tcp, method, fill(path, app="other"), reader, content=body, headers=json_too)
        assert foreign.status_code == 403, (method, path)
        mine = ask(tcp, method, fill(path), admin, content=body, headers=json_too)
        allowed = (422, 202) if body == b"null" else (422,)  # no order at all is a rollback without a number
        assert mine.status_code in allowed, (method, path, mine.text)
        assert mine.headers["content-type"] == "application/problem+json" or mine.status_code == 202


def test_a_body_that_is_too_large_is_a_413_whether_it_says_so_or_not(stage: Stage, tcp: str) -> None:
    admin = make(stage, scope="admin")
    big = b" " * (BODY_LIMIT_BYTES + 1)
    for path in ("/v1/tokens", "/v1/apps/shop/rollback", "/v1/apps/shop/maintenance", "/v1/routes", "/v1/certs"):
        assert ask_head(tcp, "POST", path, admin, BODY_LIMIT_BYTES + 1)[0] == 413, path
        answer = ask(tcp, "POST", path, admin, content=iter([big]), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413, path


def test_every_405_names_the_methods_of_the_document(stage: Stage) -> None:
    with stage.client() as client:
        paths = client.get("/v1/openapi.json").json()["paths"]
        for path, operations in paths.items():
            answer = client.request("PATCH", fill(path))
            assert answer.status_code == 405, path
            allowed = sorted(word.strip() for word in answer.headers["allow"].split(","))
            assert allowed == sorted(word.upper() for word in operations), path
            for method in {"GET", "POST", "PUT", "DELETE"} - set(allowed):
                other = client.request(method, fill(path))
                assert (other.status_code, other.headers["allow"]) == (405, answer.headers["allow"]), (method, path)


HASH = "$2y$05$abcdefghijklmnopqrstuuVx1y0wZ8kJ7l6m5n4o3p2q1r0sTuVwX"
LETS_IN = {
    "proxy": {
        "basic_auth": [f"bob:{HASH}"],
        "headers": {
            "request": {"set": {"Authorization": "Basic hunter2", "X-Api-Key": "hunter2", "X-Env": "prod"}},
            "response": {"set": {"Set-Cookie": "hunter2", "X-Frame-Options": "DENY"}},
        },
    },
    "health": {"path": "/up", "headers": {"X-Probe-Token": "hunter2", "Accept": "text/plain"}},
}


def test_who_may_only_look_sees_nothing_that_lets_somebody_in(tmp_path: Path) -> None:
    from controller.plan.reasons import explain
    from tests.api.stage import a_spec

    with Stage(tmp_path).open() as stage, stage.client() as client:
        stage.bring_up()
        stage.bring_up(**LETS_IN)
        reader, deployer = make(stage, scope="read"), make(stage, scope="deploy")
        shown = client.get("/v1/apps/shop/releases/2", auth=reader)
        assert "hunter2" not in shown.text
        assert HASH not in shown.text
        proxy = shown.json()["spec"]["proxy"]
        assert proxy["basic_auth"] == ["bob:***"]
        assert proxy["headers"]["request"]["set"] == {"Authorization": "***", "X-Api-Key": "***", "X-Env": "prod"}
        assert proxy["headers"]["response"]["set"] == {"Set-Cookie": "***", "X-Frame-Options": "DENY"}
        assert shown.json()["spec"]["health"]["headers"] == {"X-Probe-Token": "***", "Accept": "text/plain"}
        whole = client.get("/v1/apps/shop/releases/2", auth=deployer).json()["spec"]
        assert whole["proxy"]["basic_auth"] == LETS_IN["proxy"]["basic_auth"]
        assert "hunter2" not in "".join(client.get(path, auth=reader).text for path in READABLE)
        for part in (LETS_IN, {"proxy": LETS_IN["proxy"]}, {"health": LETS_IN["health"]}):
            reason = explain(a_spec(), a_spec(**part))
            assert "hunter2" not in reason
            assert HASH[:10] not in reason


READABLE = (
    "/v1/apps",
    "/v1/apps/shop",
    "/v1/apps/shop/releases",
    "/v1/routes",
    "/v1/routes/explain?url=http://shop.example.com/",
    "/v1/events?follow=false",
    "/metrics",
    "/v1/top",
)


def test_one_token_takes_its_share_of_streams_and_never_the_sockets(tmp_path: Path) -> None:
    from controller.api.events import FOLLOWERS, RESERVE, SHARE

    with Stage(tmp_path).open() as stage:
        stage.bring_up()
        tokens = [make(stage, scope="read") for _ in range(FOLLOWERS // SHARE + 1)]
        limits = httpx.Limits(max_connections=None)
        transport = httpx.HTTPTransport(uds=str(stage.socket), verify=False, limits=limits)
        with httpx.Client(transport=transport, base_url="http://oton", timeout=DEADLINE_S) as client:

            def follow(auth: Bearer | None) -> int:
                response = client.send(client.build_request("GET", "/v1/events"), auth=auth, stream=True)
                return response.status_code

            assert [follow(tokens[0]) for _ in range(SHARE + 1)] == [200] * SHARE + [503]
            assert follow(tokens[1]) == 200, "the share of one is not taken by another"
            others = [follow(token) for token in tokens[1:] for _ in range(SHARE)]
            assert others.count(200) == FOLLOWERS - RESERVE - SHARE - 1
            assert [follow(None) for _ in range(RESERVE)] == [200] * RESERVE, "the socket's own"
            assert follow(None) == 503


def test_shares_of_threads_are_likewise() -> None:
    from controller.api.auth import Caller
    from controller.api.problems import Problem
    from controller.api.shares import Shares

    shares = Shares("streams", limit=6, share=2, reserve=2)
    one, two, three = (Caller(name=f"t{number}", scope="read", token=number) for number in (1, 2, 3))
    local = Caller(name="root", scope="admin")

    def taken(who: Caller) -> bool:
        with suppress(Problem):
            shares.take(who)
            return True
        return False

    assert [taken(one) for _ in range(3)] == [True, True, False]
    assert [taken(two), taken(two), taken(three)] == [True, True, False]
    assert [taken(local) for _ in range(3)] == [True, True, False]
    shares.give_back(one)
    assert not taken(three), "the place goes to the socket first"
    for who in (one, two, two, local, local):
        shares.give_back(who)
    assert len(shares) == 0
