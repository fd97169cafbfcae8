"""A real browser in front: what a page does there, over HTTPS, and what it notices of a deployment."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.parts.images import BACKEND_COMMAND
from tests.parts.service import Service
from tests.parts.stage import Stage
from tests.parts.wait import free_port, wait_for

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

APP = """
import sys
sys.path.insert(0, "/")
import backend

def page(connection, request):
    with open("/site/page.html", "rb") as file:
        connection.reply(request, 200, file.read(), "Content-Type: text/html; charset=utf-8")

def told(connection, request):
    connection.backend.log("told", text=request.body.decode())
    connection.reply(request, 200, b"thanks")

backend.PAGES["/page"] = page
backend.PAGES["/told"] = told
sys.exit(backend.Backend(backend.Manners()).run())
"""

EVERYTHING = """
async function look() {
  const seen = {protocol: location.protocol, cookies: document.cookie};
  const hosts = new Set();
  for (let i = 0; i < 20; i++) hosts.add((await fetch("/version")).headers.get("x-host"));
  seen.hosts = hosts.size;
  const all = await Promise.all([...Array(30).keys()].map(i => fetch("/bytes?n=" + i).then(a => a.text())));
  seen.side_by_side = all.every((text, i) => text.length === i);
  const sent = new Uint8Array(3000000).map((_, i) => i * 7);
  const back = new Uint8Array(await (await fetch("/echo", {method: "POST", body: sent})).arrayBuffer());
  seen.body = back.length === sent.length && back.every((byte, i) => byte === sent[i]);
  seen.chunks = await (await fetch("/chunks?n=3")).text();
  seen.missing = (await fetch("/status?code=404")).status;
  seen.hop = performance.getEntriesByType("navigation")[0].nextHopProtocol;
  seen.events = await new Promise(done => {
    const ids = [], source = new EventSource("/sse?n=3&s=0.05");
    source.onmessage = event => { ids.push(event.lastEventId); if (ids.length === 3) { source.close(); done(ids); } };
  });
  seen.messages = await new Promise((done, lost) => {
    const got = [], socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
    socket.onopen = () => ["hello", "x".repeat(70000), "version"].forEach(text => socket.send(text));
    socket.onmessage = event => { got.push(event.data.length); if (got.length === 3) { socket.close(); } };
    socket.onclose = event => done([...got, event.code]);
    socket.onerror = () => lost("the WebSocket failed");
  });
  return seen;
}
look().catch(error => ({error: String(error)})).then(seen => tell(seen));
"""

STAYING = """
const seen = {asked: 0, lost: 0, answers: [], streams: [], sockets: [], closes: []};
const note = (list, word) => { if (list.at(-1) !== word) list.push(word); };
async function ask() {
  for (;;) {
    try {
      const answer = await fetch("/version");
      await answer.text();
      if (answer.ok) note(seen.answers, answer.headers.get("x-version")); else seen.lost++;
    } catch { seen.lost++; }
    seen.asked++;
  }
}
function listen() {
  const source = new EventSource("/sse?n=0&s=0.05");
  source.onmessage = event => note(seen.streams, event.data);
}
function talk() {
  const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
  socket.onopen = () => socket.send("version");
  socket.onmessage = event => { note(seen.sockets, event.data); setTimeout(() => socket.send("version"), 20); };
  socket.onclose = event => { seen.closes.push(event.code); talk(); };
}
ask(); listen(); talk();
setInterval(() => tell(seen), 200);
"""

TELL = 'const tell = seen => fetch("/told", {method: "POST", body: JSON.stringify(seen)});'


class Site:
    """An app with one page that a browser stays on, and what the page told of itself."""

    def __init__(self, service: Service, folder: Path, script: str) -> None:
        self.stage = Stage(service, "browsed")
        self.service = service
        (folder / "app.py").write_text(APP)
        (folder / "page.html").write_text(f"<!doctype html><title>page</title><script>{TELL}{script}</script>")
        self.fields = {
            "volumes": [f"{service.logs}:/check", f"{folder}:/site:ro"],
            "command": [*BACKEND_COMMAND[:-1], "/site/app.py"],
            "drain": "4s",
        }

    def told(self) -> dict[str, Any]:
        """Return what the page told last, {} before."""
        lines = [json.loads(line) for file in self.service.logs.glob("*.log") for line in file.read_text().splitlines()]
        told = [line for line in lines if line["event"] == "told"]
        seen: dict[str, Any] = json.loads(max(told, key=lambda line: line["at"])["text"]) if told else {}
        return seen


def certify(service: Service, host: str, folder: Path) -> str:
    """Put a certificate in force for *host* and return the fingerprint of its key, which a browser can be told to trust."""
    authority = trustme.CA()
    issued = authority.issue_cert(host)
    cert, key = folder / "one.crt", folder / "one.key"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    added = service.oton("cert", "add", host, "--cert", str(cert), "--key", str(key))
    assert added.returncode == 0, added.stderr
    public = x509.load_pem_x509_certificate(cert.read_bytes()).public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


@contextmanager
def browsing(url: str, folder: Path, trusted: str) -> Iterator[None]:
    """Have a browser on *url* while the block runs; it knows no address but this machine's own."""
    assert CHROMIUM is not None
    words = (
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
        "--no-proxy-server", "--host-resolver-rules=MAP * 127.0.0.1",
        f"--ignore-certificate-errors-spki-list={trusted}", f"--user-data-dir={folder / 'profile'}", url,
    )  # fmt: skip
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    except AssertionError as error:
        said = (folder / "chromium.log").read_text(errors="replace")[-3000:]
        raise AssertionError(f"{error}\nthe browser said:\n{said}") from None
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def secure(services: Callable[..., Service]) -> tuple[Service, int]:
    port = free_port()
    return services(settings={"TLS_PORT": str(port)}), port


def test_a_page_fetches_listens_and_talks_over_https(secure: tuple[Service, int], tmp_path: Path) -> None:
    service, port = secure
    site = Site(service, tmp_path, EVERYTHING)
    site.stage.deploy(**site.fields, proxy={"sticky": True})
    trusted = certify(service, site.stage.host, tmp_path)
    with browsing(f"https://{site.stage.host}:{port}/page", tmp_path, trusted):
        seen = wait_for(site.told, 60, "the page tells what it saw")
    assert seen == {
        "protocol": "https:",
        "cookies": "",  # ours is for the browser alone
        "hosts": 1,  # and leads it back
        "side_by_side": True,
        "body": True,
        "chunks": "chunk 0\nchunk 1\nchunk 2\n",
        "missing": 404,
        "hop": "http/1.1",
        "events": ["0", "1", "2"],
        "messages": [5, 70000, 2, 1005],
    }


def test_a_page_that_stays_open_sees_a_deployment_without_a_loss(secure: tuple[Service, int], tmp_path: Path) -> None:
    service, port = secure
    site = Site(service, tmp_path, STAYING)
    site.stage.deploy("v1", **site.fields)
    trusted = certify(service, site.stage.host, tmp_path)
    with browsing(f"https://{site.stage.host}:{port}/page", tmp_path, trusted):
        wait_for(lambda: site.told().get("sockets") and site.told()["streams"], 60, "the page is at work")
        site.stage.deploy("v2", **site.fields)

        def arrived() -> bool:
            seen = site.told()
            return all(seen[way][-1] == "v2" for way in ("answers", "streams", "sockets"))

        wait_for(arrived, 20, "the page has come to v2 in every way")
        seen = site.told()
    assert (seen["lost"], seen["asked"] > 100) == (0, True), seen
    assert seen["answers"][0] == seen["streams"][0] == seen["sockets"][0] == "v1"
    assert set(seen["closes"]) == {1012}, "told to come back, and not cut"
