"""Inspection on the whole service: people's addons, a capture, and the way round."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.service import Service, a_spec
from tests.parts.wait import wait_for

pytestmark = pytest.mark.engine

STAMP = """
def response(flow):
    flow.response.headers["x-stamp"] = "inspected"

def request(flow):
    if flow.request.path == "/wrong":
        raise RuntimeError("no luck")
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("i"))
    try:
        made.start()
        yield made
    finally:
        made.close()


def put_addon(service: Service, name: str, source: str) -> None:
    folder = service.state / "addons"
    folder.mkdir(exist_ok=True)
    part = folder / f".{name}.part"
    part.write_text(source)
    part.replace(folder / f"{name}.py")


def stamped(service: Service) -> bool:
    return service.get().headers.get("x-stamp") == "inspected"


@pytest.fixture
def shop(service: Service) -> Service:
    """Return the service with an app that is inspected, by one inspector with the addon in its first form."""
    put_addon(service, "stamp", STAMP)
    service.write_spec(a_spec(proxy={"inspect": True, "addons": ["stamp"]}))
    service.wait_app("shop", lambda row: row["sync"] == "synced")
    wait_for(lambda: stamped(service), 20, "the addon's stamp")
    wait_for(lambda: len(service.pids_of("oton-inspect")) == 1, 20, "a former inspector's end")
    return service


def events(service: Service) -> str:
    return " | ".join(row["text"] for row in service.api("GET", "/v1/events?app=shop&follow=false&limit=500").json())


def test_an_addon_is_loaded_changed_and_its_errors_are_told(shop: Service) -> None:
    assert shop.get("/wrong").status_code != 502
    wait_for(lambda: "addon stamp: line 7: RuntimeError: no luck" in events(shop), 10, "the error as an event")
    assert "addon stamp: line 7" in shop.app("shop")["message"]
    put_addon(shop, "stamp", "def response(flow):\n    flow.response.headers['x-stamp'] = 'anew'\n")
    wait_for(lambda: shop.get().headers.get("x-stamp") == "anew", 20, "the changed addon")
    assert shop.app("shop")["message"] == ""


def test_an_inspector_that_dies_takes_no_request_with_it(shop: Service) -> None:
    [pid] = shop.pids_of("oton-inspect")
    os.kill(pid, signal.SIGKILL)
    assert {shop.get().status_code for _ in range(20)} == {200}
    wait_for(lambda: stamped(shop), 20, "another inspector")
    assert shop.pids_of("oton-inspect") != [pid]


def test_an_inspector_that_stands_still_is_replaced_and_its_requests_go_round(shop: Service) -> None:
    [pid] = shop.pids_of("oton-inspect")
    os.kill(pid, signal.SIGSTOP)
    assert shop.get().status_code == 200
    wait_for(lambda: pid not in shop.pids_of("oton-inspect"), 20, "the end of the one that stands still")
    wait_for(lambda: stamped(shop), 20, "another inspector")


def test_a_capture_is_recorded_without_credentials(shop: Service, tmp_path: Path) -> None:
    assert shop.oton("secret", "set", "shop", "TOKEN", stdin="plainly-secret").returncode == 0
    file = tmp_path / "x.har"
    words = ("capture", "shop", "--for", "4s", "--filter", "~u /seen", "-o", str(file))
    command = subprocess.Popen(
        (sys.executable, "-m", "controller", *words),
        env={**shop.environment, "OTON_HOST": f"unix://{shop.socket}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    with command:
        assert command.stderr is not None
        assert "recording shop" in command.stderr.readline()
        shop.get("/seen?token=geheim&page=2&q=plainly-secret", cookies={"note": "x-plainly-secret"})
        shop.get("/unseen")
        _, said = command.communicate(timeout=20)
    assert command.returncode == 0, said
    log = json.loads(file.read_text())["log"]
    [entry] = log["entries"]
    assert "geheim" not in file.read_text()
    assert "plainly-secret" not in file.read_text()
    assert entry["request"]["url"].endswith("/seen?token=***&page=2&q=***")
    assert entry["response"]["status"] == 200


def test_a_capture_of_an_app_that_is_not_inspected_says_what_to_set(service: Service) -> None:
    service.write_spec(a_spec("plain"), "plain.yaml")
    service.wait_app("plain", lambda row: row["sync"] == "synced")
    done = service.oton("capture", "plain", "-o", "x.har")
    assert done.returncode == 5
    assert "proxy.inspect" in done.stderr
    assert not (service.root / "x.har").exists()
