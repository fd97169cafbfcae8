"""A planted secret reaches its app, and is found nowhere else."""

from __future__ import annotations

import json
import secrets as random
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.parts.images import PYTHON
from tests.parts.service import Service, a_spec, engine
from tests.parts.wait import wait_for

pytestmark = pytest.mark.e2e

BACKEND = f"{PYTHON} -I -S /backend.py"
TELLTALE = 'echo "env $TOKEN"; cat /run/secrets/CERT; '
"""What an app does that logs whatever it knows."""


def a_leaky_spec(image: str, last: str, **more: Any) -> str:
    return a_spec(
        image=image,
        replicas=1,
        command=["sh", "-c", f"{TELLTALE}{last}"],
        user="1234:1234",
        secrets=["TOKEN", {"name": "CERT", "file": True}],
        **more,
    )


def texts_below(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def all_that_is_shown(service: Service) -> dict[str, bytes]:
    """Return every answer of the API and of the command line that could hold a secret."""
    paths = ["/v1/apps", "/v1/apps/shop", "/v1/apps/shop/releases", "/v1/apps/shop/secrets", "/v1/routes"]
    paths += [f"/v1/apps/shop/releases/{one['release']}" for one in service.releases("shop")]
    paths += ["/v1/doctor", "/metrics", "/v1/apps/shop/logs?lines=1000", "/v1/routes/explain?url=http://shop.test/"]
    shown = {path: service.api("GET", path).content for path in paths}
    words = (
        ("status", "shop"),
        ("history", "shop", "-o", "json"),
        ("events",),
        ("logs", "shop"),
        ("secret", "list", "shop"),
    )
    for word in words:
        done = service.oton(*word)
        assert done.returncode == 0, done.stderr
        shown[" ".join(word)] = (done.stdout + done.stderr).encode()
    return shown


def containers_of_others(service: Service) -> dict[str, bytes]:
    with engine() as client:
        rows = client.containers(all=True)
        ours = {row["Id"] for row in service.containers("shop")}
        return {
            row["Id"]: json.dumps(client.inspect_container(row["Id"])).encode() for row in rows if row["Id"] not in ours
        }


def assert_nowhere(values: list[str], places: dict[str, bytes]) -> None:
    found = [(place, value) for place, content in places.items() for value in values if value.encode() in content]
    assert not found


@pytest.mark.slow
@pytest.mark.core
def test_a_planted_secret_reaches_its_app_and_is_found_nowhere_else(services: Start, backend: Any) -> None:
    service = services()
    token, line = f"tok-{random.token_hex(12)}", f"line-{random.token_hex(12)}"
    newer = f"new-{random.token_hex(12)}"
    known = [token, line, newer]
    image = backend("v1")

    service.write_spec(a_spec(name="other", image=image, replicas=1), "other.yaml")
    spec = service.root / "shop.yaml"
    spec.write_text(a_leaky_spec(image, f"exec {BACKEND}"))
    lacking = service.oton("apply", str(spec))
    assert lacking.returncode == 3
    assert "oton secret set shop" in lacking.stdout + lacking.stderr

    assert service.oton("secret", "set", "shop", "TOKEN", stdin=f"{token}\n").returncode == 0
    assert service.oton("secret", "set", "shop", "CERT", stdin=f"BEGIN\n{line}\nEND\n").returncode == 0
    service.wait_app("shop", lambda row: row["sync"] == "synced" and row["health"] == "healthy")
    service.wait_app("other", lambda row: row["health"] == "healthy")
    assert token in service.oton("exec", "shop", "--", "sh", "-c", "echo $TOKEN").stdout
    assert line in service.oton("exec", "shop", "--", "cat", "/run/secrets/CERT").stdout
    assert line in service.oton("run", "shop", "--", "cat", "/run/secrets/CERT").stdout
    logs = service.oton("logs", "shop").stdout
    assert "env ***" in logs

    # A probe's answer, a `before` command's output and last log lines that all tell it.
    for last, more in (
        (f'NEVER_READY="$TOKEN" exec {BACKEND}', {"deadline": "6s"}),
        ("exit 3", {}),
        (f"exec {BACKEND}", {"before": {"command": ["sh", "-c", f"{TELLTALE} exit 4"]}}),
    ):
        spec.write_text(a_leaky_spec(image, last, **more))
        failed = service.oton("apply", str(spec))
        assert failed.returncode == 3, failed.stdout + failed.stderr
        assert "***" in failed.stdout + failed.stderr, failed.stdout + failed.stderr
        assert_nowhere(known, {"apply": (failed.stdout + failed.stderr).encode()})

    spec.write_text(a_leaky_spec(image, f"exec {BACKEND}"))
    assert service.oton("apply", str(spec)).returncode == 0
    before = service.app("shop")["release"]
    assert service.oton("secret", "set", "shop", "TOKEN", stdin=newer).returncode == 0
    service.wait_app("shop", lambda row: row["release"] > before and row["sync"] == "synced")
    assert service.releases("shop")[0]["reason"] == "secret changed: TOKEN"
    assert newer in service.oton("exec", "shop", "--", "sh", "-c", "echo $TOKEN").stdout

    assert service.oton("secret", "rotate-key").returncode == 0
    assert newer in service.oton("run", "shop", "--", "sh", "-c", "echo $TOKEN").stdout

    assert_nowhere(known, all_that_is_shown(service))
    assert_nowhere(known, containers_of_others(service))
    assert service.stop() == 0
    assert_nowhere(known, texts_below(service.root))


def test_secret_files_lie_in_memory_come_back_with_their_container_and_go_with_the_app(
    services: Start, backend: Any
) -> None:
    service = services()
    line = f"line-{random.token_hex(12)}"
    service.api("PUT", "/v1/apps/shop/secrets/CERT", json={"value": line})
    service.write_spec(a_spec(image=backend("v1"), replicas=1, secrets=[{"name": "CERT", "file": True}]))
    service.wait_app("shop", lambda row: row["release"] and row["health"] == "healthy")
    finding = next(one for one in service.api("GET", "/v1/doctor").json() if one["check"] == "secret files")
    place = Path(finding["text"].rpartition(" ")[2])
    assert [file.name for file in place.rglob("CERT")] == ["CERT"]
    assert place.stat().st_mode & 0o777 == 0o700

    # The machine forgets what was in memory, and the container has stopped.
    folder = next(place.rglob("CERT")).parent
    (container,) = service.containers("shop")
    service.kill()
    with engine() as client:
        client.stop(container["Id"], timeout=1)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    service.start()
    service.wait_app("shop", lambda row: row["release"] and row["health"] == "healthy")
    assert line in service.oton("exec", "shop", "--", "cat", "/run/secrets/CERT").stdout

    assert service.oton("delete", "shop", "-y").returncode == 0
    wait_for(lambda: not place.exists(), 10, "the secret files are gone")
