"""What concerns the service as a whole is for admins of all of it: backups, keys, and what Git brings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.api.stage import Stage

WHOLE = [("GET", "/v1/backup"), ("POST", "/v1/restore"), ("GET", "/v1/restore"), ("POST", "/v1/secrets/rotate-key")]


def shown(stage: Stage, **fields: Any) -> dict[str, str]:
    """Return the header that shows a new token."""
    secret, _ = stage.store.tokens.create(f"t{len(stage.store.tokens.list())}", **fields)
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(("method", "path"), WHOLE)
@pytest.mark.parametrize("fields", [{"scope": "read"}, {"scope": "deploy"}, {"scope": "admin", "apps": ["shop"]}])
def test_backups_and_keys_are_for_admins_of_all_apps(
    stage: Stage, client: httpx.Client, method: str, path: str, fields: dict[str, Any]
) -> None:
    answer = client.request(method, path, headers=shown(stage, **fields), content=b"x" if method == "POST" else None)
    assert answer.status_code == 403
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_a_key_is_rotated_and_secrets_stay_readable_for_their_app(stage: Stage, client: httpx.Client) -> None:
    stage.store.secrets.set("shop", "KEY", "value")
    version = stage.store.secrets.versions("shop")
    assert client.post("/v1/secrets/rotate-key").json()["key"]
    assert stage.store.secrets.values("shop", ["KEY"]) == {"KEY": "value"}
    assert stage.store.secrets.versions("shop") == version


def test_a_sync_of_a_service_without_git_says_what_is_missing(client: httpx.Client) -> None:
    answer = client.post("/v1/sync")
    assert answer.status_code == 409
    assert "OTON_GIT_URL" in answer.json()["detail"]


@dataclass
class Source:
    """A checkout that only counts how often it was asked."""

    asked: int = 0
    state: Any = field(default_factory=lambda: SimpleNamespace(commit=None))

    def ask(self) -> None:
        self.asked += 1


def test_who_may_deploy_all_apps_may_ask_for_a_sync(tmp_path: Path) -> None:
    source = Source()
    stage = Stage(tmp_path)
    stage.parts = replace(stage.parts, source=source)
    with stage.open(), stage.client() as client:
        refused = client.post("/v1/sync", headers=shown(stage, scope="deploy", apps=["shop"]))
        assert refused.status_code == 403
        assert client.post("/v1/sync", headers=shown(stage, scope="read")).status_code == 403
        assert client.post("/v1/sync", headers={"Authorization": "Bearer oton_guess"}).status_code == 401
        assert source.asked == 0
        assert client.post("/v1/sync", headers=shown(stage, scope="deploy")).json() == {
            "accepted": True,
            "commit": None,
        }
        assert source.asked == 1
