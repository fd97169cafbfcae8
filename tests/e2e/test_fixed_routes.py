"""Fixed routes and the API under a public host, through the real proxy."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from tests.parts.images import ensure_backend_image
from tests.parts.service import TOP, Service, a_spec
from tests.parts.stage import Stage
from tests.parts.wait import free_port, wait_for

pytestmark = pytest.mark.e2e


class Legacy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"legacy {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def legacy() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Legacy)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join(5)


def ask(service: Service, host: str, path: str = "/x", **headers: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{service.port}{path}", headers={"Host": host, **headers}, timeout=10)


@pytest.mark.timeout(120)
def test_a_host_leads_to_something_that_docker_does_not_run_and_is_nobody_elses(
    services: Callable[..., Service], legacy: int
) -> None:
    service = services(settings={"OTON_ALLOW_TARGETS": f"127.0.0.1:{legacy}"})
    wish = {"name": "legacy", "host": "old.test", "targets": [f"127.0.0.1:{legacy}"], "health_path": "/"}
    forbidden = service.api("POST", "/v1/routes", json={**wish, "targets": [f"127.0.0.1:{service.port}"]})
    assert forbidden.status_code == 422, forbidden.text
    assert "the service's own" in forbidden.json()["detail"]
    assert service.api("POST", "/v1/routes", json=wish).status_code == 201
    wait_for(lambda: ask(service, "old.test").status_code == 200, 10, "the fixed route answers")
    assert ask(service, "old.test").text == "legacy /x"

    stage = Stage(service, "taker", routes=[{"host": "old.test"}])
    turned_down = stage.apply(limit_s=60)
    assert turned_down.returncode in {2, 5}
    assert "fixed route legacy" in turned_down.stderr
    assert ask(service, "old.test").text == "legacy /x"

    shown = service.oton("routes").stdout
    assert "old.test" in shown
    assert service.api("DELETE", "/v1/routes/legacy").status_code == 200
    wait_for(lambda: service.app("taker")["release"] is not None, 30, "the app takes the freed host")


@pytest.mark.timeout(90)
def test_the_api_answers_under_its_public_host_and_never_takes_a_token_in_the_clear(
    services: Callable[..., Service],
) -> None:
    service = services(settings={"OTON_API": f"127.0.0.1:{free_port()}", "OTON_API_HOST": "api.test"})
    wait_for(lambda: ask(service, "api.test", "/healthz").status_code != 404, 10, "the host is routed")
    assert ask(service, "api.test", "/healthz").status_code == 403
    assert ask(service, "other.test", "/healthz").status_code == 404


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_command_line_works_under_the_apis_public_host(services: Callable[..., Service], tmp_path: Path) -> None:
    port = free_port()
    host, far = "localhost", f"https://localhost:{port}"
    service = services(settings={"OTON_API": f"127.0.0.1:{free_port()}", "OTON_API_HOST": host, "TLS_PORT": str(port)})
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert(host)
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems).decode()
    wish = {"host": host, "cert": chain, "key": issued.private_key_pem.bytes().decode()}
    assert service.api("POST", "/v1/certs", json=wish).status_code == 201
    made = service.api("POST", "/v1/tokens", json={"name": "ci", "apps": ["shop"], "hosts": ["shop.test"]})
    secret = made.json()["secret"]

    def oton(*words: str, token: str = secret, place: str = far, stdin: str = "") -> tuple[int, str, str]:
        """Run the command line as from elsewhere: its target and its authority are all that it knows."""
        done = subprocess.run(
            [sys.executable, "-m", "controller", "--host", place, *words],
            env={**os.environ, "PYTHONPATH": str(TOP), "OTON_TOKEN": token, "SSL_CERT_FILE": str(tmp_path / "ca.pem")},
            cwd=tmp_path, input=stdin, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    wait_for(lambda: oton("status", "-o", "json")[:2] == (0, "[]\n"), 20, "the door is open")
    code, out, err = oton("apply", "-", "-o", "json", stdin=a_spec("shop", ensure_backend_image("v1"), replicas=1))
    assert code == 0, err
    assert (json.loads(out)[0]["app"], json.loads(out)[0]["exit"]) == ("shop", 0)
    assert [row["sync"] for row in json.loads(oton("status", "shop", "-o", "json")[1])] == ["synced"]
    assert oton("exec", "shop", "--", "/bin/cat", stdin="over the proxy")[:2] == (0, "over the proxy")
    assert oton("exec", "shop", "--", "/bin/sh", "-c", "exit 7")[0] == 7
    assert '"text"' in oton("logs", "shop", "-o", "json")[1]
    assert oton("rollback", "shop")[0] == 6, "there is no other release"
    assert oton("status", "other")[0] == 7
    assert oton("cert", "list")[0] == 7
    assert oton("status", token="oton_guess")[0] == 7
    assert oton("status", place=f"http://{host}:{service.port}")[0] == 8
    assert service.oton("cert", "rm", host).returncode == 0
    wait_for(lambda: oton("status")[0] == 8, 20, "without its certificate nobody is let in")


@pytest.mark.timeout(120)
def test_no_app_gets_any_path_of_the_apis_host(services: Callable[..., Service]) -> None:
    settings = {"OTON_API": f"127.0.0.1:{free_port()}", "OTON_API_HOST": "API.shop.test."}
    service = services(settings=settings, start=False)
    image = ensure_backend_image("v1")
    routes = [{"host": "api.shop.test", "path": "/v1"}, {"host": "api.shop.test"}]
    service.write_spec(a_spec("evil", image, routes=routes, replicas=1), "evil.yaml")
    service.write_spec(a_spec("wild", image, routes=[{"host": "*.shop.test"}], replicas=1), "wild.yaml")
    service.start()
    service.wait_app("wild", lambda row: row["phase"] == "live")
    service.wait_app("evil", lambda row: row["sync"] == "invalid" and "the service's own API has" in row["message"])
    for host in ("api.shop.test", "API.SHOP.TEST", "api.shop.test.", "api.shop.test:80"):
        for path in ("/v1/apps", "/", "/v1", "/x?y"):
            answer = ask(service, host, path)
            assert (answer.status_code, answer.headers.get("x-version")) == (403, None), (host, path)
    assert ask(service, "blog.shop.test", "/v1").headers["x-version"] == "v1"
    made = service.api("POST", "/v1/tokens", json={"name": "ci", "scope": "deploy", "hosts": ["*.shop.test"]})
    headers = {"Authorization": f"Bearer {made.json()['secret']}", "Content-Type": "application/yaml"}
    body = a_spec("evil", image, routes=[{"host": "api.shop.test", "path": "/v1/x"}], replicas=1)
    port = settings["OTON_API"].rpartition(":")[2]
    refused = httpx.put(f"http://127.0.0.1:{port}/v1/apps/evil/spec", content=body, headers=headers)
    assert refused.status_code == 403
    wish = {"name": "evil", "host": "api.shop.test", "path": "/v1", "targets": ["10.0.0.1:80"]}
    assert service.api("POST", "/v1/routes", json=wish).status_code in (409, 422)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_fixed_route_becomes_an_app_in_one_table(services: Callable[..., Service], legacy: int) -> None:
    service = services(settings={"OTON_ALLOW_TARGETS": f"127.0.0.1:{legacy}"})
    wish = {"name": "legacy", "host": "old.test", "targets": [f"127.0.0.1:{legacy}"], "health_path": "/"}
    assert service.api("POST", "/v1/routes", json=wish).status_code == 201
    wait_for(lambda: ask(service, "old.test").status_code == 200, 20, "the legacy answers")
    service.write_spec(a_spec("taker", ensure_backend_image("v1", START_DELAY_S="1"), host="old.test"), "taker.yaml")
    service.wait_app("taker", lambda row: row["sync"] == "invalid")
    assert service.api("DELETE", "/v1/routes/legacy").status_code == 200
    answers = []

    def is_taken() -> bool:
        answers.append(ask(service, "old.test"))
        return "x-version" in answers[-1].headers

    wait_for(is_taken, 40, "the app has the host", look_s=0.005)
    assert {answer.status_code for answer in answers} == {200}
    wait_for(lambda: ask(service, "old.test").headers.get("x-version") == "v1", 5, "and keeps it")
