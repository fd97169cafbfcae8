"""One app of a running service, under names of its own, and the ways to change it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.parts.client import CheckingClient
from tests.parts.images import ensure_backend_image
from tests.parts.service import Service, a_spec, engine
from tests.parts.wait import wait_for

Row = dict[str, Any]


class Stage:
    """The app *name* on *service*; every change goes the way that a user would take."""

    def __init__(self, service: Service, name: str, **defaults: Any) -> None:
        self.service = service
        self.name = name
        self.host = f"{name}.test"
        self.defaults: dict[str, Any] = {"routes": [{"host": self.host}], **defaults}

    # specs

    def spec(self, version: str = "v1", *, manners: Mapping[str, str] | None = None, **more: Any) -> str:
        """Return the text of the app's spec for an image of the backend; *manners* go into the image's environment."""
        fields = {**self.defaults, **more}
        image = fields.pop("image", None) or ensure_backend_image(version, **(manners or {}))
        return a_spec(self.name, image, logs=self.service.logs, **fields)

    def write(self, version: str = "v1", *, file: str = "", **more: Any) -> Path:
        """Put the spec into the watched directory."""
        return self.service.write_spec(self.spec(version, **more), file or f"{self.name}.yaml")

    def apply(
        self, version: str = "v1", *words: str, limit_s: float = 90, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run `oton apply` with the spec on its standard input."""
        return self.service.oton("apply", "-", *words, stdin=self.spec(version, **more), limit_s=limit_s)

    def put(self, version: str = "v1", **more: Any) -> int:
        """Upload the spec over the API and return its change number."""
        headers = {"Content-Type": "application/yaml"}
        answer = self.service.api(
            "PUT", f"/v1/apps/{self.name}/spec", content=self.spec(version, **more), headers=headers
        )
        assert answer.status_code == 202, answer.text
        return int(answer.json()["change"])

    def order(self, verb: str, **body: Any) -> int:
        """Give an order over the API and return its change number."""
        answer = self.service.api("POST", f"/v1/apps/{self.name}/{verb}", json=body)
        assert answer.status_code == 202, answer.text
        return int(answer.json()["change"])

    def try_order(self, verb: str, **body: Any) -> None:
        """Give an order to a controller that may end before it has answered; what it stored counts."""
        with suppress(httpx.TransportError):
            self.order(verb, **body)

    # asking

    def row(self) -> Row:
        """Return the app's row of `status`, {} while there is none or no controller to ask."""
        if not self.service.is_listening():
            return {}
        with suppress(httpx.TransportError):
            return self.service.app(self.name)
        return {}

    def releases(self) -> list[Row]:
        return self.service.releases(self.name)

    def release(self, number: int) -> Row:
        """Return one row of the history."""
        return next(row for row in self.releases() if row["release"] == number)

    def containers(self) -> list[Row]:
        return self.service.containers(self.name)

    def running(self) -> frozenset[str]:
        """Return the ids of the containers that run."""
        return frozenset(row["Id"] for row in self.containers() if row["State"] == "running")

    def running_of_slot(self, index: int) -> str:
        """Return the id of the container that runs as this replica."""
        slot = ("running", str(index))
        return next(row["Id"] for row in self.containers() if (row["State"], row["Labels"]["oton.replica"]) == slot)

    def backend_log(self) -> str:
        """Return what the app's running backends logged."""
        hosts = [container[:12] for container in self.running()]
        return "".join(file.read_text() for host in hosts for file in self.service.logs.glob(f"{host}-*.log"))

    def version(self) -> str:
        """Return who answers one new request: a version, or the status of an error."""
        answer = self.service.get(host=self.host)
        return answer.headers.get("x-version", "") if answer.status_code == 200 else str(answer.status_code)

    def state_of(self, container: str) -> Row:
        """Return the engine's word on a container."""
        with engine() as client:
            state: Row = client.inspect_container(container)["State"]
            return state

    # waiting

    def wait(self, condition: Callable[[Row], Any], limit_s: float = 40) -> Row:
        """Wait until the app's row fulfils *condition* and return that row."""
        rows: list[Row] = [{}]

        def look() -> bool:
            rows[0] = self.row()
            return bool(rows[0] and condition(rows[0]))

        try:
            wait_for(look, limit_s, f"{self.name} as expected", look_s=0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}\nrow: {json.dumps(rows[0], indent=1)}") from None
        return rows[0]

    def wait_live(self, version: str, limit_s: float = 40) -> Row:
        """Wait until a release of *version* is live, nothing is under way, and only its containers are left."""
        row = self.wait(lambda row: is_at_rest(row) and row["image"] == f"oton-test-backend:{version}", limit_s)
        self.wait_tidy(limit_s)
        return row

    def wait_tidy(self, limit_s: float = 40) -> None:
        """Wait until the app has exactly the containers that its spec wants, and they are all routed."""

        def is_tidy() -> bool:
            if not (row := self.row()):
                return False
            rows, replicas = self.containers(), row["replicas"]
            wanted = replicas["wanted"]
            return len(rows) == wanted == replicas["routed"] and all(row["State"] == "running" for row in rows)

        try:
            wait_for(is_tidy, limit_s, f"{self.name} has just its own containers", look_s=0.1)
        except AssertionError as error:
            rows = [(row["Names"], row["State"], row["Status"]) for row in self.containers()]
            raise AssertionError(f"{error}\n{rows}\n{json.dumps(self.row(), indent=1)}") from None

    def wait_answer(self, change: int, limit_s: float = 40) -> Row:
        """Wait until the order with this change number was answered, and return the answer."""
        row = self.wait(lambda row: any(order["change"] == change for order in row.get("orders", ())), limit_s)
        return next(order for order in row["orders"] if order["change"] == change)

    def deploy(self, version: str = "v1", limit_s: float = 40, **more: Any) -> Row:
        """Apply over the API and wait until it is live with nothing left of the old."""
        change = self.put(version, **more)
        self.wait_answer(change, limit_s)
        return self.wait_live(version, limit_s)

    # traffic

    @contextmanager
    def load(self, **more: Any) -> Iterator[CheckingClient]:
        """Send steady traffic while the block runs; at its end nothing may be lost, doubled, foreign or unheard."""
        client = self.client(**more)
        with client.running():
            wait_for(lambda: client.counts()[1] > 5, 20, "traffic flows")
            yield client
            sent = client.count
            wait_for(lambda: client.count > sent + 5, 20, "traffic flows on")
        report = client.report()
        print(f"{self.name}: {report.summary()}")
        report.check()
        assert not report.unheard, f"{len(report.unheard)} answers that no backend logged: {report.unheard[:3]}"

    def client(self, **more: Any) -> CheckingClient:
        return self.service.client(self.host, **{"slow": 0, **more})

    # the end

    def close(self) -> None:
        """Delete the app and wait until nothing of it runs."""
        answer = self.service.api("DELETE", f"/v1/apps/{self.name}")
        if answer.status_code == 202:
            wait_for(lambda: not self.containers(), 30, f"{self.name} is gone", look_s=0.1)


def is_at_rest(row: Row) -> bool:
    """Say whether nothing is under way for the app."""
    is_seen = "open_orders" in row  # else nobody has looked at it yet
    return is_seen and row["target"] is None and row["phase"] in ("live", None, "") and not row["open_orders"]
