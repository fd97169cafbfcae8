"""Ten clients change three apps at once, on a real service: every change is answered, and what was last is what runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.parts.service import Service, a_spec, engine
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CLIENTS, ROUNDS, APPS = 10, 4, ("one", "two", "three")


@pytest.mark.core
@pytest.mark.timeout(180)
def test_applies_of_ten_clients_at_once_lose_nothing(service: Service, backend: Any) -> None:
    image = backend("v1")

    def apply_all(client: int) -> list[tuple[str, int, str]]:
        """Send this client's specs as fast as they are taken; return app, change and author of each."""
        transport = httpx.HTTPTransport(uds=str(service.socket))
        with httpx.Client(transport=transport, base_url="http://oton", timeout=30) as own:
            made = []
            for turn in range(ROUNDS):
                app, author = APPS[(client + turn) % len(APPS)], f"client-{client}-{turn}"
                text = a_spec(app, image, replicas=1, environment={"AUTHOR": author})
                answer = own.put(f"/v1/apps/{app}/spec", content=text)
                assert answer.status_code == 202, answer.text
                made.append((app, int(answer.json()["change"]), author))
        return made

    with ThreadPoolExecutor(CLIENTS) as pool:
        changes = [one for made in pool.map(apply_all, range(CLIENTS)) for one in made]
    assert len({change for _, change, _ in changes}) == CLIENTS * ROUNDS

    def answers() -> list[Any]:
        return [service.api("GET", f"/v1/apps/{app}/orders/{change}").json() for app, change, _ in changes]

    wait_for(lambda: all(row["state"] == "answered" for row in answers()), 60, "every change is answered")
    told: dict[str, set[str]] = {app: set() for app in APPS}
    for (app, _, author), row in zip(changes, answers(), strict=True):
        assert row["result"] == "release" or row["text"] == "a newer change to the file came first", row
        if row["result"] == "release":
            release = service.api("GET", f"/v1/apps/{app}/releases/{row['release']}").json()
            assert release["spec"]["environment"]["AUTHOR"] == author, "somebody was told another's release"
            told[app].add(author)
    for app in APPS:
        service.wait_app(app, lambda row: row["sync"] == "synced" and row["health"] == "healthy", 60)
        wait_for(lambda name=app: len(service.containers(name)) == 1, 40, "one replica is left")
        author = author_of(service.containers(app)[0]["Id"])
        assert author in told[app]
        assert f'"AUTHOR": "{author}"' in (service.desired / f"{app}.yaml").read_text()
        assert service.get(host=f"{app}.test").status_code == 200


def author_of(container: str) -> str:
    """Return whose spec a container was made from."""
    with engine() as client:
        environment = client.inspect_container(container)["Config"]["Env"]
    return next(text.partition("=")[2] for text in environment if text.startswith("AUTHOR="))
