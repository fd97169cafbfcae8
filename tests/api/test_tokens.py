"""Tokens: who may do what, what no token may ask for, and that nothing tells which apps exist."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from controller.api.server import ApiThread
from controller.api.sockets import Listening, open_tcp
from tests.api.stage import DEADLINE_S, Stage, answering

SPEC = "name: {app}\nimage: x\nport: 8000\nroutes: [{{host: {app}.example.com}}]\n"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    path = tmp_path_factory.mktemp("stage")
    with Stage(path, settings=a_server()).open() as opened:
        for app in ("shop", "other"):
            opened.bring_up(app, routes=[{"host": f"{app}.example.com"}])
        opened.plays = {verb: answering("done") for verb in VERBS} | {"apply": answering("unchanged")}
        yield opened


def a_server(**fields: Any) -> Any:
    base = {"allow_binds": (), "allow_caps": (), "allow_networks": (), "docker_host": None, "api_host": None}
    base |= {
        "state": Path("/oton/s"),
        "db_path": Path("/oton/db"),
        "socket": Path("/oton/x"),
        "desired": Path("/oton/d"),
    }
    return SimpleNamespace(**(base | fields))


@pytest.fixture(scope="module")
def tcp(stage: Stage) -> Iterator[str]:
    with serving(stage) as url:
        yield url


@contextmanager
def serving(stage: Stage) -> Iterator[str]:
    listener = open_tcp(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    stop = threading.Event()
    api = ApiThread(stage.api, Listening((listener,)))
    thread = threading.Thread(target=api.run, args=(stop,))
    thread.start()
    assert api.started.wait(DEADLINE_S)
    yield f"http://127.0.0.1:{port}"
    stop.set()
    thread.join(DEADLINE_S)


VERBS = ("rollback", "unpin", "promote", "abort", "retry", "suspend", "resume", "restart", "maintenance")
READING = [
    ("GET", "/v1/apps/shop"), ("GET", "/v1/apps/shop/releases"), ("GET", "/v1/apps/shop/releases/1"),
    ("GET", "/v1/events?follow=false&app=shop"),
]  # fmt: skip
DEPLOYING = [
    *(("POST", f"/v1/apps/shop/{verb}") for verb in VERBS),
    ("GET", "/v1/apps/shop/secrets"),
    ("PUT", "/v1/apps/shop/secrets/KEY"),
    ("PUT", "/v1/apps/shop/spec"),
]
ADMIN = [
    ("GET", "/v1/tokens"), ("POST", "/v1/tokens"), ("DELETE", "/v1/tokens/nope"), ("GET", "/v1/doctor"),
]  # fmt: skip


def make(stage: Stage, name: str, **fields: Any) -> httpx.Auth:
    secret, _ = stage.store.tokens.create(name, **fields)
    return Bearer(secret)


class Bearer(httpx.Auth):
    def __init__(self, secret: str) -> None:
        self.secret = secret

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        request.headers["Authorization"] = f"Bearer {self.secret}"
        yield request


def ask(tcp: str, method: str, path: str, auth: httpx.Auth | None, **more: Any) -> httpx.Response:
    if not more and method in ("POST", "PUT"):
        if path.endswith("/spec"):
            more = {"content": SPEC.format(app=path.split("/")[3])}
        elif path.endswith("maintenance"):
            more = {"json": {"on": True}}
        elif "/secrets/" in path:
            more = {"json": {"value": "s3cr3t"}}
        elif path == "/v1/tokens":
            more = {"json": {"name": "made"}}
    with httpx.Client(transport=httpx.HTTPTransport(verify=False), timeout=DEADLINE_S, trust_env=False) as client:
        return client.request(method, tcp + path, auth=auth, **more)


def test_without_a_token_only_the_two_probes_answer(tcp: str) -> None:
    assert ask(tcp, "GET", "/healthz", None).status_code == 200
    assert ask(tcp, "GET", "/readyz", None).status_code == 200
    for method, path in [*READING, *DEPLOYING, *ADMIN, ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/v1/openapi.json"),
                         ("GET", "/v1/apps"), ("GET", "/v1/routes"), ("GET", "/v1/version"), ("POST", "/v1/validate")]:  # fmt: skip
        answer = ask(tcp, method, path, None)
        assert answer.status_code == 401, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_browser_may_show_its_token_as_a_password_on_the_page_alone(stage: Stage, tcp: str) -> None:
    auth = make(stage, "browser", scope="read")
    asked = ask(tcp, "GET", "/docs", None)
    assert asked.status_code == 401
    assert 'Basic realm="' in asked.headers["www-authenticate"]
    assert "Basic" not in ask(tcp, "GET", "/v1/apps", None).headers["www-authenticate"]
    password = httpx.BasicAuth("anybody", auth.secret)  # type: ignore[attr-defined]
    assert ask(tcp, "GET", "/docs", password).status_code == 200
    for wrong in (httpx.BasicAuth("anybody", "nope"), httpx.BasicAuth("anybody", "")):
        assert ask(tcp, "GET", "/docs", wrong).status_code == 401
    for method, path in [*READING, *DEPLOYING, *ADMIN, ("GET", "/v1/openapi.json")]:
        assert ask(tcp, method, path, password).status_code in (401, 404), path


def test_scopes_are_kept(stage: Stage, tcp: str) -> None:
    tokens = {scope: make(stage, f"scope-{scope}", scope=scope) for scope in ("read", "deploy", "admin")}
    allowed = {"read": READING, "deploy": [*READING, *DEPLOYING], "admin": [*READING, *DEPLOYING, *ADMIN]}
    for scope, auth in tokens.items():
        for method, path in [*READING, *DEPLOYING, *ADMIN]:
            code = ask(tcp, method, path, auth).status_code
            assert (code != 403) == ((method, path) in allowed[scope]), (scope, method, path, code)


def test_a_foreign_and_an_unknown_app_are_the_same_403(stage: Stage, tcp: str) -> None:
    auth = make(stage, "only-shop", scope="deploy", apps=["shop"])
    for method, path in [*READING, *DEPLOYING]:
        foreign = ask(tcp, method, path.replace("shop", "other"), auth)
        unknown = ask(tcp, method, path.replace("shop", "unknown"), auth)
        assert foreign.status_code == unknown.status_code == 403, path
        assert foreign.json() == unknown.json()


def test_lists_are_filtered(stage: Stage, tcp: str) -> None:
    auth = make(stage, "only-shop-reading", scope="read", apps=["shop"])
    stage.store.add_event("other", "note", "info", "a secret of others")
    stage.store.add_event("", "note", "info", "of the service")
    assert [row["app"] for row in ask(tcp, "GET", "/v1/apps", auth).json()] == ["shop"]
    assert {row["app"] for row in ask(tcp, "GET", "/v1/routes", auth).json()} == {"shop"}
    assert {row["app"] for row in ask(tcp, "GET", "/v1/events?follow=false", auth).json()} <= {"shop"}
    metrics = ask(tcp, "GET", "/metrics", auth).text
    assert 'app="shop"' in metrics
    assert "other" not in metrics
    mine = ask(tcp, "GET", "/v1/routes/explain?url=http://shop.example.com", auth)
    foreign = ask(tcp, "GET", "/v1/routes/explain?url=http://other.example.com", auth)
    nobody = ask(tcp, "GET", "/v1/routes/explain?url=http://nobody.example.com", auth)
    assert mine.json()["found"] is True
    assert foreign.status_code == nobody.status_code == 403
    assert foreign.json() == nobody.json()


def test_a_token_limited_to_apps_is_no_admin_of_all(stage: Stage, tcp: str) -> None:
    auth = make(stage, "admin-of-shop", scope="admin", apps=["shop"])
    for method, path in ADMIN:
        assert ask(tcp, method, path, auth).status_code == 403, path


@pytest.mark.parametrize("shown", ["oton_", "oton_" + "x" * 43, "nope", "oton_é", "Bearer", "oton_" + "x" * 5000])
def test_a_wrong_token_is_401_and_is_not_logged(tcp: str, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = httpx.get(
            tcp + "/v1/apps",
            headers={"Authorization": f"Bearer {shown}".encode()},
            timeout=DEADLINE_S,
            trust_env=False,
            verify=False,
        )
    assert answer.status_code == 401
    assert len(shown) < 20 or shown not in caplog.text


def test_a_revoked_and_an_expired_token_end_at_once(stage: Stage, tcp: str) -> None:
    revoked = make(stage, "to-revoke")
    assert ask(tcp, "GET", "/v1/apps", revoked).status_code == 200
    with stage.client() as client:
        assert client.delete("/v1/tokens/to-revoke").json()["state"] == "revoked"
        assert client.delete("/v1/tokens/to-revoke").status_code == 404
    assert ask(tcp, "GET", "/v1/apps", revoked).status_code == 401
    expired = make(stage, "expired", ttl_s=0.001)
    assert ask(tcp, "GET", "/v1/apps", expired).status_code == 401


def test_a_secret_is_shown_once_and_kept_nowhere(stage: Stage, tcp: str) -> None:
    with stage.client() as client:
        made = client.post("/v1/tokens", json={"name": "ci", "scope": "deploy", "apps": ["shop"], "ttl_s": 60}).json()
        assert made["secret"].startswith("oton_")
        listed = client.get("/v1/tokens")
        assert "ci" in listed.text
        assert made["secret"] not in listed.text
        again = client.post("/v1/tokens", json={"name": "ci"})
        assert again.status_code == 422
    for file in stage.path.rglob("*"):
        if file.is_file():
            assert made["secret"].encode() not in file.read_bytes()
    assert ask(tcp, "GET", "/v1/apps", Bearer(made["secret"])).status_code == 200


def test_changes_by_a_token_are_audited_under_its_name(stage: Stage, tcp: str) -> None:
    auth = make(stage, "auditor")
    ask(tcp, "POST", "/v1/apps/shop/restart", auth)
    newest = stage.store.audit.list(limit=1)[0]
    assert (newest.by, newest.verb, newest.app) == ("token auditor", "restart", "shop")


def spec(**fields: Any) -> str:
    base = {"name": "shop", "image": "x", "port": 8000, "routes": [{"host": "shop.example.com"}]}
    return json.dumps(base | fields)


REFUSED = [
    ({"volumes": ["/srv/data:/data"]}, "volumes[0]"),
    ({"volumes": ["/:/host"]}, "volumes[0]"),
    ({"volumes": ["/var/run/docker.sock:/s"]}, "volumes[0]"),
    ({"volumes": [{"type": "bind", "source": "/etc", "target": "/x"}]}, "volumes[0]"),
    ({"volumes": [{"name": "theirs", "external": True, "target": "/x"}]}, "volumes[0]"),
    ({"cap_add": ["SYS_ADMIN"]}, "cap_add[0]"),
    ({"cap_add": ["ALL"]}, "cap_add[0]"),
    ({"networks": ["backend"]}, "networks[0]"),
    ({"routes": [{"host": "bank.example.com"}]}, "routes[0].host"),
    ({"routes": [{"path": "/x"}]}, "routes[0].host"),
    ({"routes": [{"host": "*.example.com"}]}, "routes[0].host"),
    ({"strategy": {"type": "blue_green", "preview_host": "bank.example.com"}}, "strategy.preview_host"),
    ({"routes": [{"host": "api.example.com", "path": "/v1"}]}, "routes[0].host"),
]


@pytest.mark.parametrize(("fields", "field"), REFUSED, ids=[str(fields)[:50] for fields, _ in REFUSED])
def test_what_reaches_beyond_the_app_is_refused_with_field_and_reason(
    stage: Stage, tcp: str, fields: dict[str, Any], field: str, request: pytest.FixtureRequest
) -> None:
    auth = make(stage, f"r{REFUSED.index((fields, field))}", scope="deploy")
    before = stage.directory.known["shop"]
    for method, path in (("PUT", "/v1/apps/shop/spec"), ("POST", "/v1/diff")):
        answer = ask(tcp, method, path, auth, content=spec(**fields))
        assert answer.status_code == 403, answer.text
        assert answer.json()["type"] == "/problems/not-allowed"
        assert answer.json()["fields"] == [field]
        assert answer.json()["problems"][0].startswith(f"{field}: ")
    assert stage.directory.known["shop"] is before
    admin = make(stage, f"a{REFUSED.index((fields, field))}", scope="admin")
    assert ask(tcp, "POST", "/v1/diff", admin, content=spec(**fields)).status_code == 200


def test_what_the_server_allows_is_allowed_but_never_the_engines_socket(tmp_path: Path) -> None:
    from controller.api.refusals import find_refusals
    from tests.api.stage import a_spec

    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    own = tmp_path / "in" / "engine.sock"
    server = a_server(
        allow_binds=(str(inside), "/var/run"),
        allow_caps=("CAP_NET_ADMIN",),
        allow_networks=("backend",),
        docker_host=f"unix://{own}",
    )

    def refused(**fields: Any) -> list[str]:
        fine = a_spec(routes=[], **fields)
        return [one.field for one in find_refusals(fine, frozenset(), (), server)]

    assert refused(volumes=[f"{inside}/x:/x"], cap_add=["NET_ADMIN"], networks=["backend"]) == []
    assert refused(volumes=[f"{inside}/link:/x"]) == ["volumes[0]"]
    assert refused(volumes=[f"{inside}-not:/x"]) == ["volumes[0]"]
    for path in ("/var/run/docker.sock", "/var/run", "/run", "/", str(own), str(inside)):
        assert refused(volumes=[f"{path}:/x"]) == ["volumes[0]"], path
    server.allow_binds = ("/",)
    for path in ("/oton", "/oton/s", "/oton/s/keys", "/oton/db", "/oton/db-wal", "/oton/x", "/oton/d", "/oton/d/a"):
        assert refused(volumes=[f"{path}:/x"]) == ["volumes[0]"], path


@pytest.mark.parametrize(
    ("patterns", "host", "is_allowed"),
    [
        (["new.example.com"], "new.example.com", True),
        (["*.example.com"], "new.example.com", True),
        (["*.example.com"], "a.b.example.com", False),
        (["*.example.com"], "example.com", False),
        (["*.example.com"], "evilexample.com", False),
        ([], "shop.example.com", True),
        ([], "new.example.com", False),
        (["*.example.com"], "*.example.com", False),
    ],
)
def test_hosts_are_those_of_the_app_and_of_the_token(
    stage: Stage, tcp: str, patterns: list[str], host: str, is_allowed: bool
) -> None:
    auth = make(stage, f"h{abs(hash((tuple(patterns), host)))}", scope="deploy", hosts=patterns)
    answer = ask(tcp, "POST", "/v1/diff", auth, content=spec(routes=[{"host": host}]))
    assert (answer.status_code == 200) is is_allowed, answer.text


@pytest.mark.parametrize(
    ("patterns", "route", "is_allowed"),
    [
        ((), {"host": "shared.test", "path": "/shop"}, True),
        ((), {"host": "SHARED.test.", "path": "/shop/cart"}, True),
        ((), {"host": "shared.test", "path": "/login"}, False),
        ((), {"host": "shared.test", "path": "/"}, False),
        ((), {"host": "shared.test", "path": "/shopping"}, False),
        ((), {"host": "shared.test", "path": "/sh%6Fp2"}, False),
        ((), {"host": "*.wild.test", "path": "/a/b"}, True),
        ((), {"host": "*.wild.test", "path": "/b"}, False),
        ((), {"host": "x.wild.test", "path": "/a"}, False),
        ((), {"path": "/any/below"}, True),
        ((), {"path": "/"}, False),
        (("shared.test",), {"host": "shared.test", "path": "/login"}, True),
        (("*.test",), {"host": "shared.test", "path": "/"}, True),
        (("*.test", "api.test"), {"host": "api.test", "path": "/v1"}, False),
        (("*.test",), {"host": "API.test.", "path": "/"}, False),
        (("*.test",), {"host": "apis.test", "path": "/"}, True),
    ],
)
def test_a_token_may_take_what_lies_within_its_apps_routes_and_nothing_beside_it(
    patterns: tuple[str, ...], route: dict[str, str], is_allowed: bool
) -> None:
    from controller.api.refusals import find_refusals
    from controller.plan.claims import claims_of
    from tests.api.stage import a_spec

    had = claims_of(
        a_spec(
            routes=[{"host": "shared.test", "path": "/shop"}, {"host": "*.wild.test", "path": "/a"}, {"path": "/any"}]
        )
    )
    found = list(find_refusals(a_spec(routes=[route]), had, patterns, a_server(api_host="api.test")))
    assert [one.field for one in found] == ([] if is_allowed else ["routes[0].host"])


def test_the_apis_own_host_is_refused_even_to_an_app_that_has_it() -> None:
    from controller.api.refusals import find_refusals
    from controller.plan.claims import claims_of
    from tests.api.stage import a_spec

    spec = a_spec(routes=[{"host": "api.test", "path": "/v1"}])
    (found,) = find_refusals(spec, claims_of(spec), ("*.test",), a_server(api_host="api.test"))
    assert "the service's own API" in found.text
    preview = a_spec(routes=[], strategy={"type": "blue_green", "preview_host": "api.test"})
    (found,) = find_refusals(preview, frozenset(), ("*.test",), a_server(api_host="api.test"))
    assert found.field == "strategy.preview_host"


def test_a_connection_can_be_pinned_to_a_token_for_good(stage: Stage) -> None:
    secret, _ = stage.store.tokens.create("pinned", scope="read", apps=["shop"])

    def request(head: bytes, *pieces: bytes) -> tuple[int, Any]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(stage.socket))
            for piece in (head, *pieces):
                sock.sendall(piece)
            with sock.makefile("rb") as file:
                status = int(file.readline().split()[1])
                body = file.read()
        return status, body

    get = b"GET /v1/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    pin = b"OTON-TOKEN " + secret.encode() + b"\n"
    assert request(pin + get % b"apps/shop")[0] == 200
    assert request(pin, get % b"apps/shop")[0] == 200
    assert request(pin[:5], pin[5:30], pin[30:], get % b"doctor")[0] == 403
    assert request(pin + get % b"apps/other")[0] == 403
    sneaky = get.replace(b"Host: x", b"Host: x\r\nAuthorization: Bearer nope")
    assert request(pin + sneaky % b"apps/shop")[0] == 200
    assert request(b"OTON-TOKEN nope\n" + get % b"apps")[0] == 401
    assert request(get % b"tokens")[0] == 200, "without a pin, the socket is admin"
    assert request(b"OTON-TOKEN " + b"x" * 1000)[0] == 400


def test_on_tcp_a_pin_is_no_request(tcp: str) -> None:
    host, port = tcp.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), DEADLINE_S) as sock:
        sock.sendall(b"OTON-TOKEN x\nGET / HTTP/1.1\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 400")


def test_a_token_shown_on_the_socket_counts_and_not_the_user(stage: Stage) -> None:
    auth = make(stage, "lesser", scope="read")
    with stage.client() as client:
        assert client.post("/v1/apps/shop/restart", auth=auth).status_code == 403


def test_secrets_go_in_and_never_come_out(stage: Stage, tcp: str) -> None:
    auth = make(stage, "secretary", scope="deploy", apps=["shop"])
    answer = ask(tcp, "PUT", "/v1/apps/shop/secrets/DATABASE_URL", auth, json={"value": "postgres://hunter2@db"})
    assert answer.status_code == 200
    assert answer.json()["name"] == "DATABASE_URL"
    listed = ask(tcp, "GET", "/v1/apps/shop/secrets", auth)
    assert [row["name"] for row in listed.json() if row["name"] == "DATABASE_URL"] == ["DATABASE_URL"]
    replicas = stage.worlds["shop"].replicas
    stage.engine.containers["shop"] = replicas
    stage.engine.written[replicas[0].id] = [(1.0, "connecting to postgres://hunter2@db failed")]
    logs = ask(tcp, "GET", "/v1/apps/shop/logs", auth)
    assert "connecting to *** failed" in logs.text
    for text in (answer.text, listed.text, logs.text, json.dumps([e.outcome for e in stage.store.audit.list()])):
        assert "hunter2" not in text
    verdict = replace(stage.worlds["shop"].verdicts[replicas[0].id], answer='GET /: "postgres://hunter2@db"')
    stage.decide("shop", world=replace(stage.worlds["shop"], verdicts={replicas[0].id: verdict}))
    assert "hunter2" not in ask(tcp, "GET", "/v1/apps/shop", auth).text
    assert ask(tcp, "DELETE", "/v1/apps/shop/secrets/DATABASE_URL", auth).status_code == 204
    assert ask(tcp, "DELETE", "/v1/apps/shop/secrets/DATABASE_URL", auth).status_code == 404
    for file in stage.path.rglob("*"):
        if file.is_file():
            assert b"hunter2" not in file.read_bytes(), file


def test_a_bad_secret_is_refused_without_being_repeated(tcp: str, stage: Stage) -> None:
    auth = make(stage, "secretary-2", scope="deploy")
    for body in ({"value": ""}, {"value": 7}, {"valeu": "hunter2hunter2"}, {"value": "x\u0000hunter2"}):
        answer = ask(tcp, "PUT", "/v1/apps/shop/secrets/KEY", auth, json=body)
        assert answer.status_code == 422
        assert "hunter2" not in answer.text
    for key in ("1X", "a b", "x" * 200, "..%2fx"):
        assert ask(tcp, "PUT", f"/v1/apps/shop/secrets/{key}", auth, json={"value": "v"}).status_code in (404, 422)
