"""Fixed routes and the API under a public host, through the real proxy."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.parts.service import Service
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
