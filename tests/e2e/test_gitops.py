"""A repository is what runs: commits roll out, the checkout is not for others to change, and a webhook makes it quick."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.checkout.kit import Repository
from tests.conftest import Start
from tests.parts.service import Service, a_spec
from tests.parts.wait import free_port, wait_for

pytestmark = pytest.mark.e2e

HOOKS = "hooks.test"


def ring_webhook(service: Service, secret: str | None = None) -> Any:
    """Tell the service of a push, as GitHub does."""
    body = b'{"ref": "refs/heads/main"}'
    key = secret if secret is not None else (service.state / "webhook.secret").read_text().strip()
    return service.api("POST", "/v1/sync", content=body, headers={"X-Hub-Signature-256": sign(key, body)})


def sign(secret: str, body: bytes) -> str:
    """Return the signature that GitHub sends with a body."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def read_checkout(place: Path) -> str:
    """Return what git has put there; git takes a file away before it writes the new one."""
    try:
        return place.read_text()
    except FileNotFoundError:
        return ""


def test_a_push_rolls_out_and_apps_of_git_are_changed_in_git_alone(
    services: Start, backend: Any, tmp_path: Path
) -> None:
    repository = Repository(tmp_path)
    spec = a_spec(image=backend("v1"), replicas=1)
    repository.commit("First shop", {"deploy/shop.yaml": spec, "elsewhere/compose.yaml": "services: {}\n"})
    service = services(settings={"OTON_GIT_URL": repository.url, "OTON_GIT_PATH": "deploy", "OTON_GIT_INTERVAL": "1h"})
    row = service.wait_app("shop", lambda row: row["release"] == 1 and row["sync"] == "synced")
    assert row["file"].endswith("desired/deploy/shop.yaml")
    assert [one["app"] for one in service.apps()] == ["shop"], "files outside of the path do not count"

    newest = repository.commit("Ship v2\n\nLonger text", {"deploy/shop.yaml": spec.replace(":v1", ":v2")}, author="Ada")
    backend("v2")
    assert ring_webhook(service).status_code == 202
    service.wait_app("shop", lambda row: row["release"] == 2 and row["sync"] == "synced")
    last = service.releases("shop")[0]
    assert last["by"] == f"git {newest[:7]}"
    assert last["reason"].endswith("(Ada: Ship v2)")
    assert service.get().headers["x-version"] == "v2"

    (service.root / "shop.yaml").write_text(spec)
    refused = service.oton("apply", str(service.root / "shop.yaml"))
    assert refused.returncode == 5
    assert "shop comes from Git" in refused.stdout + refused.stderr
    assert "change it in Git" in refused.stdout + refused.stderr
    assert service.oton("delete", "shop", "-y").returncode == 5
    assert service.oton("maintenance", "shop", "on", "--message", "back soon").returncode == 0
    assert service.get().status_code == 503
    assert service.oton("maintenance", "shop", "off").returncode == 0
    assert service.oton("suspend", "shop").returncode == 0
    assert service.oton("resume", "shop").returncode == 0
    assert service.oton("rollback", "shop").returncode == 0
    assert service.get().headers["x-version"] == "v1"

    (service.root / "mine.yaml").write_text(a_spec(name="mine", image=backend("v1"), replicas=1))
    mine = service.oton("apply", str(service.root / "mine.yaml"))
    assert mine.returncode == 0, mine.stdout + mine.stderr
    assert (service.desired / "local/mine.yaml").exists()
    assert service.oton("delete", "mine", "-y").returncode == 0

    # The remote goes away, somebody works in the checkout, and both are told; then all is well again.
    away = repository.bare.with_name("away.git")
    repository.bare.rename(away)
    ring_webhook(service)
    git = lambda: next(one for one in service.api("GET", "/v1/doctor").json() if one["check"] == "git")  # noqa: E731
    wait_for(lambda: git()["state"] == "warning", 20, "the doctor says that the remote is away")
    assert "git fetch" in git()["text"]
    assert any(one["app"] is None and "git fetch" in one["message"] for one in service.apps())
    away.rename(repository.bare)
    service.write_spec(spec.replace('"replicas": 1', '"replicas": 2'), "deploy/shop.yaml")
    repository.commit("Ship v3", {"deploy/shop.yaml": spec.replace(":v1", ":v3")})
    backend("v3")
    ring_webhook(service)
    wait_for(lambda: "not committed: deploy/shop.yaml" in git()["text"], 20, "the doctor tells of work by hand")
    assert "not committed" in service.oton("events").stdout
    assert '"replicas": 2' in (service.desired / "deploy/shop.yaml").read_text()


def test_who_may_ask_for_a_sync(services: Start, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.commit("First", {"readme.md": "hello\n"})
    service = services(settings={"OTON_GIT_URL": repository.url})
    wrong = ring_webhook(service, "guess")
    assert (wrong.status_code, wrong.json()["detail"]) == (
        401,
        "the signature does not match the secret in the state directory",
    )
    wait_for((service.desired / "readme.md").exists, 10, "the first checkout")
    repository.commit("Second", {"readme.md": "again\n"})
    asked = service.oton("sync")
    assert asked.returncode == 0, asked.stderr
    wait_for(lambda: read_checkout(service.desired / "readme.md") == "again\n", 10, "the second checkout")
    secret = (service.state / "webhook.secret").read_text().strip()
    assert service.api("POST", "/v1/sync", headers={"X-Gitlab-Token": secret}).status_code == 202
    assert secret not in service.log_file.read_text()


@pytest.mark.parametrize("door", ["OTON_API", "OTON_API_HOST"])
def test_a_forge_rings_over_the_network_and_nobody_who_does_not_know_the_secret(
    services: Start, tmp_path: Path, door: str
) -> None:
    repository = Repository(tmp_path)
    repository.commit("First", {"readme.md": "first\n"})
    api, tls = f"127.0.0.1:{free_port()}", free_port()
    service = services(
        settings={
            "OTON_GIT_URL": repository.url,
            "OTON_GIT_INTERVAL": "1h",
            "OTON_API": api,
            **({"OTON_API_HOST": HOOKS, "TLS_PORT": str(tls)} if door == "OTON_API_HOST" else {}),
        }
    )
    place = service.desired / "readme.md"
    wait_for(place.exists, 10, "the first checkout")
    authority = trustme.CA()
    if door == "OTON_API_HOST":
        issued = authority.issue_cert(HOOKS)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems).decode()
        wish = {"host": HOOKS, "cert": chain, "key": issued.private_key_pem.bytes().decode()}
        assert service.api("POST", "/v1/certs", json=wish).status_code == 201
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    base = f"https://127.0.0.1:{tls}" if door == "OTON_API_HOST" else f"http://{api}"
    body = b'{"ref": "refs/heads/main"}'

    def ring(**signed: str) -> httpx.Response:
        with httpx.Client(verify=trust, timeout=10) as forge:
            headers = {"Host": HOOKS, "Content-Type": "application/json", **signed}
            asked = forge.build_request("POST", f"{base}/v1/sync", content=body, headers=headers)
            asked.extensions["sni_hostname"] = HOOKS
            return forge.send(asked)

    def is_served() -> bool:
        try:
            return ring().status_code == 401
        except httpx.TransportError:
            return False

    wait_for(is_served, 10, "the door is open")
    repository.commit("Second", {"readme.md": "second\n"})
    secret = (service.state / "webhook.secret").read_text().strip()
    unsigned, wrong = ring(), ring(**{"X-Hub-Signature-256": sign("guess", body)})
    assert (unsigned.status_code, unsigned.json()["type"]) == (401, "/problems/no-token")
    assert (wrong.status_code, wrong.json()["type"]) == (401, "/problems/bad-signature")
    other = ring(**{"X-Hub-Signature-256": sign(secret, b"{}")})
    assert (other.status_code, other.json()["type"]) == (401, "/problems/bad-signature"), "another body's signature"
    assert read_checkout(place) == "first\n"
    assert ring(**{"X-Hub-Signature-256": sign(secret, body)}).status_code == 202
    wait_for(lambda: read_checkout(place) == "second\n", 10, "the second checkout")
    assert secret not in service.log_file.read_text()


def test_without_git_a_sync_says_how_to_get_it(service: Service) -> None:
    answer = service.api("POST", "/v1/sync")
    assert answer.status_code == 409
    assert "OTON_GIT_URL" in answer.json()["detail"]
    assert service.oton("sync").returncode == 5
