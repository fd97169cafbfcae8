"""`oton cert`, and fixed routes with the API's public host among them: every exit code and the JSON of each verb."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from controller.routing.table import AppRoutes, Rule, Upstream
from tests.api.stage import Stage
from tests.cli.conftest import Oton
from tests.cli.test_transports import a_token, listening

CERTIFICATE = {"host", "names", "issuer", "not_before", "expires", "problem"}
FIXED = {"name", "host", "path", "strip_path", "targets", "health_path", "ready", "by"}
LEGACY = {"name": "legacy", "host": "old.example.com", "targets": ["10.0.0.7:8080"]}


@dataclass
class Files:
    """Certificates and keys on the disk, by what is to be said of them."""

    folder: Path

    def __post_init__(self) -> None:
        self.authority = trustme.CA()
        self.make("good", "shop.example.com")
        self.make("other", "other.example.com")
        self.make("expired", "shop.example.com", not_after=datetime(2020, 1, 1, tzinfo=UTC))
        (self.folder / "text.crt").write_text("no PEM\n")
        (self.folder / "bytes.crt").write_bytes(b"\x30\x82\xff")

    def make(self, name: str, host: str, **more: Any) -> None:
        issued = self.authority.issue_cert(host, **more)
        (self.folder / f"{name}.crt").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        (self.folder / f"{name}.key").write_bytes(issued.private_key_pem.bytes())

    def words(self, cert: str, key: str, host: str = "shop.example.com") -> list[str]:
        flags = ("--cert", str(self.folder / f"{cert}.crt"), "--key", str(self.folder / f"{key}.key"))
        return ["cert", "add", host, *flags]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("pem"))


@pytest.fixture(autouse=True)
def bare(stage: Stage) -> Iterator[None]:
    """Nothing of one test is there for the next."""
    yield
    for one in stage.certificates.list():
        stage.certificates.remove(one.host)
    for route, _ in stage.fixed.all():
        stage.fixed.remove(route.name)
    stage.fixed.built_in = ()
    stage.fixed.look()


def test_a_certificate_is_added_listed_and_removed(oton: Oton, files: Files) -> None:
    empty = oton("cert", "list")
    assert (empty.code, empty.out) == (0, "")
    assert "add one with: oton cert add HOST" in empty.err
    added = oton(*files.words("good", "good"), "-o", "json")
    assert added.code == 0, added
    assert set(added.json) == CERTIFICATE
    assert (added.json["host"], added.json["names"]) == ("shop.example.com", ["shop.example.com"])
    listed = oton("cert", "list", "-o", "json")
    assert (listed.code, listed.json) == (0, [added.json])
    assert oton("cert", "list", "-o", "name").out == "shop.example.com\n"
    assert oton("cert", "list").out.splitlines()[0].split() == ["HOST", "NAMES", "EXPIRES", "ISSUER", "PROBLEM"]
    again = oton(*files.words("good", "good", "SHOP.example.com"))
    assert (again.code, again.out.split(":")[0]) == (0, "shop.example.com")
    removed = oton("cert", "rm", "Shop.example.com")
    assert (removed.code, removed.err) == (0, "")
    assert oton("cert", "list", "-o", "json").json == []


@pytest.mark.parametrize(
    ("cert", "key", "host", "said"),
    [
        ("other", "other", "shop.example.com", "the certificate is for other.example.com"),
        ("good", "other", "shop.example.com", "the key is not the certificate's"),
        ("expired", "expired", "shop.example.com", "has expired"),
        ("text", "good", "shop.example.com", "no certificate in it"),
        ("bytes", "good", "shop.example.com", "not a text file"),
        ("gone", "good", "shop.example.com", "cannot be read: No such file"),
        ("good", "good", "sh/op", "host"),
    ],
)
def test_a_bad_certificate_is_2_and_the_one_in_force_stays(
    oton: Oton, files: Files, cert: str, key: str, host: str, said: str
) -> None:
    assert oton(*files.words("good", "good")).code == 0
    before = oton("cert", "list", "-o", "json").json
    ran = oton(*files.words(cert, key, host), "-o", "json")
    assert (ran.code, ran.out) == (2, ""), ran
    assert said in ran.err
    assert oton("cert", "list", "-o", "json").json == before


@pytest.mark.parametrize(
    ("host", "code"), [("10.0.0.5", 0), ("fd00::5", 0), ("FD00::5", 0), ("fd00::6", 2), ("*.example.com", 2)]
)
def test_a_certificate_may_be_for_an_address(oton: Oton, files: Files, host: str, code: int) -> None:
    name = "fd00::5" if ":" in host else "10.0.0.5"
    files.make("address", name)
    ran = oton(*files.words("address", "address", host), "-o", "json")
    assert ran.code == code, ran
    assert (ran.json["host"] if code == 0 else name) == name
    assert oton("cert", "rm", name).code == (0 if code == 0 else 6)


def test_a_certificate_that_is_not_there_is_6(oton: Oton) -> None:
    ran = oton("cert", "rm", "nope.example.com")
    assert (ran.code, ran.out, ran.err) == (6, "", "oton: nope.example.com: no certificate for it\n")


@pytest.mark.parametrize("scope", ["read", "deploy"])
def test_certificates_are_7_for_whoever_is_not_admin(
    stage: Stage, oton: Oton, files: Files, monkeypatch: pytest.MonkeyPatch, scope: str
) -> None:
    monkeypatch.setenv("OTON_TOKEN", a_token(stage, scope))
    with listening(stage) as port:
        far = ("--host", f"http://127.0.0.1:{port}")
        for words in (["cert", "list"], ["cert", "rm", "shop.example.com"], files.words("good", "good")):
            ran = oton(*far, *words)
            assert (ran.code, ran.out) == (7, ""), words
            assert ran.err == f"oton: this needs scope admin; this token has {scope}\n"


def test_certificates_are_8_where_no_service_answers(oton: Oton, files: Files, tmp_path: Path) -> None:
    for words in (["cert", "list"], ["cert", "rm", "shop.example.com"], files.words("good", "good")):
        ran = oton("--host", f"unix://{tmp_path}/none.sock", *words)
        assert (ran.code, ran.out) == (8, ""), words


def test_a_fixed_route_stands_in_the_table_and_explains_itself(stage: Stage, oton: Oton) -> None:
    with stage.client() as client:
        made = client.post("/v1/routes", json={**LEGACY, "path": "/files", "strip_path": True})
        assert (made.status_code, set(made.json())) == (201, FIXED)
        stage.fixed.look()
        [listed] = client.get("/v1/routes/fixed").json()
        assert (set(listed), listed["ready"]) == (FIXED, ["10.0.0.7:8080"])
        [row] = [one for one in oton("routes", "-o", "json").json if one["app"] == "fixed:legacy"]
        assert (row["host"], row["path"]) == ("old.example.com", "/files")
        assert {"address", "ready", "weight"} <= set(row["upstreams"][0])
        assert row["upstreams"][0]["address"] == "10.0.0.7:8080"
        assert "old.example.com" in oton("routes").out
        explained = oton("routes", "explain", "http://old.example.com/files/x", "-o", "json")
        assert (explained.code, explained.json["found"], explained.json["app"]) == (0, True, "fixed:legacy")
        told = oton("routes", "explain", "http://old.example.com/files").out
        assert "  fixed route legacy: " in told
        assert "  10.0.0.7:8080  " in told
        assert "release" not in told
        assert client.delete("/v1/routes/legacy").status_code == 200
        stage.fixed.look()
        assert not [one for one in oton("routes", "-o", "json").json if one["app"] == "fixed:legacy"]
        gone = client.delete("/v1/routes/legacy")
        assert (gone.status_code, gone.json()["type"]) == (404, "/problems/no-such-route")


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"targets": ["10.0.0.7"]}, "allowed: host:port"),
        ({"targets": ["169.254.169.254:80"]}, "never a target"),
        ({"targets": ["127.0.0.1:3080"]}, "the service's own"),
        ({"targets": ["127.0.0.1:9000"]}, "OTON_ALLOW_TARGETS=127.0.0.1:9000"),
        ({"targets": []}, "targets"),
        ({"path": "files"}, "path"),
        ({"name": "api"}, "the service's own"),
        ({"name": "a name"}, "name"),
        ({"host": "api.example.com"}, "belongs to the service's own API, with every path"),
        ({"host": "mine.example.com"}, "belongs to app mine"),
        ({"host": "first.example.com"}, "belongs to fixed route first"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_fixed_route_that_cannot_be_is_422_and_says_why(stage: Stage, wish: dict[str, Any], said: str) -> None:
    stage.fixed.built_in = (an_api_entry(),)
    stage.bring_up("mine", routes=[{"host": "mine.example.com"}])
    with stage.client() as client:
        first = {**LEGACY, "name": "first", "host": "first.example.com"}
        assert client.post("/v1/routes", json=first).status_code == 201
        answer = client.post("/v1/routes", json={**LEGACY, **wish})
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert said in answer.json()["detail"]
        assert [row["name"] for row in client.get("/v1/routes/fixed").json()] == ["first"]


@pytest.mark.parametrize(
    "fields", [{"scope": "read"}, {"scope": "deploy"}, {"scope": "admin", "apps": ["shop"]}], ids=str
)
def test_fixed_routes_are_for_admins_of_all_apps(stage: Stage, fields: dict[str, Any]) -> None:
    secret, _ = stage.store.tokens.create(f"t{len(stage.store.tokens.list())}", **fields)
    with stage.client() as client:
        client.headers["Authorization"] = f"Bearer {secret}"
        for answer in fixed_calls(client):
            assert answer.status_code == 403, answer.request.url


def fixed_calls(client: httpx.Client) -> Iterator[httpx.Response]:
    yield client.get("/v1/routes/fixed")
    yield client.post("/v1/routes", json=LEGACY)
    yield client.delete("/v1/routes/legacy")


def an_api_entry() -> AppRoutes:
    upstream = Upstream(id="fixed:api/127.0.0.1:3080", address="127.0.0.1", port=3080, release=0)
    return AppRoutes(app="fixed:api", rules=(Rule(host="api.example.com"),), upstreams=(upstream,))


def test_the_apis_public_host_stands_in_the_table_and_is_nobodys_to_take_away(stage: Stage, oton: Oton) -> None:
    stage.fixed.built_in = (an_api_entry(),)
    stage.fixed.look()
    [row] = [one for one in oton("routes", "-o", "json").json if one["app"] == "fixed:api"]
    assert (row["host"], row["upstreams"][0]["address"]) == ("api.example.com", "127.0.0.1:3080")
    explained = oton("routes", "explain", "https://api.example.com/v1/apps", "-o", "json")
    assert (explained.code, explained.json["app"]) == (0, "fixed:api")
    with stage.client() as client:
        assert client.get("/v1/routes/fixed").json() == []
        assert client.delete("/v1/routes/api").status_code == 404
