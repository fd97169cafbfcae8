"""
The OpenAPI document, held against a service on a real engine: every operation in it answers as it says, to what is
good and to whatever else a client may send.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import trustme
import urllib3
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.checkout.kit import Repository
from tests.conftest import Start
from tests.parts.service import Service, a_spec
from tests.parts.wait import free_port, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ENDLESS = ("text/event-stream", "application/x-ndjson")
HEAD_S, QUIET_S, STREAM_S = 30.0, 0.3, 3.0
EXAMPLES = 25
APP, SPARE = "shop", "spare"
KNOWN = {"app": APP, "number": 1, "key": "GREETING", "host": "cert.test", "name": "legacy"}
"""What path parameters are called that lead to something."""

Good = tuple[str, dict[str, Any]]


@schemathesis.serializer("application/gzip")
def gzip_as_it_is(_: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@dataclass
class Visitor:
    """Sends cases to a service and holds the answers against its document."""

    service: Service
    base: str
    secret: str
    schema: Any = field(init=False)

    def __post_init__(self) -> None:
        document = requests.get(f"{self.base}/v1/openapi.json", headers=self.headers, timeout=HEAD_S).json()
        self.schema = schemathesis.openapi.from_dict(document)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"}

    @property
    def operations(self) -> dict[str, Any]:
        """Every operation of the document, by method and path."""
        return {found.ok().label: found.ok() for found in self.schema.get_all_operations()}

    def check(self, case: Any) -> requests.Response:
        """Send one case and hold its answer against the document: its own success, or an error in our words."""
        answer = self.send(case)
        case.validate_response(answer, checks=CHECKS)
        assert answer.status_code == success_of(case.operation) or answer.status_code >= 400, answer.status_code
        return answer

    def send(self, case: Any) -> requests.Response:
        """Send one case; a stream is read until nothing comes for a moment, and then its client goes."""
        words = case.as_transport_kwargs(base_url=self.base, headers=self.headers)
        with requests.Session() as session:
            answer = session.request(**words, stream=True, timeout=HEAD_S)
            if answer.headers.get("content-type", "").partition(";")[0] in ENDLESS:
                answer._content = read_a_while(answer)
            else:
                answer.content  # noqa: B018 - read before the session goes
            answer.close()
        return answer


def success_of(operation: Any) -> int:
    """Return the one status that the document has for success."""
    [success] = [int(status) for status in operation.definition.raw["responses"] if status != "default"]
    return success


def read_a_while(answer: requests.Response) -> bytes:
    """Return what comes of a stream until it is quiet, or has been read for long enough."""
    answer.raw.connection.sock.settimeout(QUIET_S)
    read, until = b"", time.monotonic() + STREAM_S
    with suppress(urllib3.exceptions.ReadTimeoutError):
        for chunk in answer.raw.stream(1024):
            read += chunk
            if time.monotonic() > until:
                break
    return read


@pytest.fixture
def visitor(services: Start, backend: Any, tmp_path: Path) -> Visitor:
    """Visit a service with everything on: Git, the API on TCP, and an inspected app that is live."""
    repository = Repository(tmp_path)
    repository.commit("First", {"readme.md": "hello\n"})
    api, target = f"127.0.0.1:{free_port()}", "127.0.0.1:9"
    service = services(settings={"OTON_API": api, "OTON_GIT_URL": repository.url, "OTON_ALLOW_TARGETS": target})
    made = service.api("POST", "/v1/tokens", json={"name": "visitor", "scope": "admin"})
    assert made.status_code == 201, made.text
    spec = a_spec(APP, backend("v1"), replicas=1, proxy={"inspect": True})
    put = service.api("PUT", f"/v1/apps/{APP}/spec", content=spec)
    assert put.status_code == 202, put.text
    service.wait_app(APP, lambda row: row["sync"] == "synced")
    return Visitor(service, f"http://{api}", made.json()["secret"])


def all_good(visitor: Visitor, backend: Any, tmp_path: Path) -> Iterator[Good]:
    """Yield a request for each operation that has to succeed, in an order in which it can."""
    service, app, spare = visitor.service, {"app": APP}, {"app": SPARE}
    yield "GET /healthz", {}
    yield "GET /readyz", {}
    yield "GET /metrics", {}
    for path in ("version", "doctor", "top", "apps", "routes", "routes/fixed", "tokens", "certs"):
        yield f"GET /v1/{path}", {}
    yield "GET /v1/routes/explain", {"query": {"url": f"http://{APP}.test/"}}
    spec = {"name": SPARE, "image": backend("v1"), "pull": "never"}
    yield "POST /v1/validate", {"body": spec}
    yield "POST /v1/diff", {"body": spec}
    yield "PUT /v1/apps/{app}/spec", {"path_parameters": spare, "body": spec}
    row = service.wait_app(SPARE, lambda row: row["release"] == 1)
    yield "GET /v1/apps/{app}", {"path_parameters": app}
    yield "GET /v1/apps/{app}/orders/{change}", {"path_parameters": {**spare, "change": row["change"]}}
    yield "GET /v1/apps/{app}/releases", {"path_parameters": app}
    yield "GET /v1/apps/{app}/releases/{number}", {"path_parameters": {**app, "number": 1}}
    yield "GET /v1/apps/{app}/logs", {"path_parameters": app}
    yield "GET /v1/apps/{app}/logs", {"path_parameters": app, "query": {"follow": True}}
    yield "GET /v1/events", {"query": {"follow": False, "limit": 50}}
    yield "GET /v1/events", {"query": {"limit": 50}}
    yield "GET /v1/apps/{app}/capture", {"path_parameters": app, "query": {"for": 0.2}}
    yield "PUT /v1/apps/{app}/secrets/{key}", {"path_parameters": {**app, "key": "GREETING"}, "body": {"value": "x"}}
    yield "GET /v1/apps/{app}/secrets", {"path_parameters": app}
    yield "POST /v1/secrets/rotate-key", {}
    yield "DELETE /v1/apps/{app}/secrets/{key}", {"path_parameters": {**app, "key": "GREETING"}}
    for verb in ("suspend", "resume", "restart", "retry", "promote", "abort", "unpin"):
        yield f"POST /v1/apps/{{app}}/{verb}", {"path_parameters": spare}
    yield "POST /v1/apps/{app}/rollback", {"path_parameters": spare, "body": {"to": 1}}
    yield "POST /v1/apps/{app}/maintenance", {"path_parameters": spare, "body": {"on": True, "message": "soon"}}
    yield "POST /v1/tokens", {"body": {"name": "ci", "scope": "read", "ttl_s": 60}}
    yield "DELETE /v1/tokens/{name}", {"path_parameters": {"name": "ci"}}
    issued = trustme.CA().issue_cert("cert.test")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems).decode()
    key = issued.private_key_pem.bytes().decode()
    yield "POST /v1/certs", {"body": {"host": "cert.test", "cert": chain, "key": key}}
    yield "GET /v1/certs", {}
    yield "DELETE /v1/certs/{host}", {"path_parameters": {"host": "cert.test"}}
    yield "POST /v1/routes", {"body": {"name": "legacy", "host": "old.test", "targets": ["127.0.0.1:9"]}}
    yield "GET /v1/routes/fixed", {}
    yield "DELETE /v1/routes/{name}", {"path_parameters": {"name": "legacy"}}
    yield "POST /v1/sync", {"body": {"ref": "refs/heads/main"}}
    yield "DELETE /v1/apps/{app}", {"path_parameters": spare}
    wait_for(lambda: not service.containers(SPARE), 30, f"{SPARE} is gone")
    yield "GET /v1/backup", {}
    archive, old = service.api("GET", "/v1/backup").content, service.pid_of("_controller")
    yield "POST /v1/restore", {"body": archive}
    service.wait_next("_controller", old)
    yield "GET /v1/restore", {}


@pytest.mark.core
@pytest.mark.timeout(300)
def test_every_operation_succeeds_as_the_document_says(visitor: Visitor, backend: Any, tmp_path: Path) -> None:
    operations, done = visitor.operations, set()
    for label, words in all_good(visitor, backend, tmp_path):
        done.add(label)
        operation = operations[label]
        answer = visitor.check(operation.Case(**words))
        assert answer.status_code == success_of(operation), f"{label}: {answer.status_code} {answer.text[:500]}"
    assert done == set(operations), "an operation of the document has no request here"


@pytest.mark.timeout(600)
def test_whatever_a_client_sends_is_answered_as_the_document_says(visitor: Visitor) -> None:
    wrong: list[Exception] = []
    answers = {label: send_any(visitor, operation, wrong) for label, operation in visitor.operations.items()}
    for label, statuses in answers.items():
        print(f"{label}: {dict(sorted(statuses.items()))}")
    if wrong:
        raise ExceptionGroup("not as the document says", wrong)
    assert all(answers.values()), "an operation was never asked"
    service = visitor.service
    assert "request failed" not in service.log_file.read_text()
    for verb, body in (("resume", {}), ("maintenance", {"on": False})):
        assert service.api("POST", f"/v1/apps/{APP}/{verb}", json=body).status_code == 202
    wait_for(lambda: service.get().status_code == 200, 40, "the app serves")


def strategies(operation: Any) -> Iterator[Any]:
    """Yield what makes cases of an operation: what the document allows, with names of things that are there, what not."""
    yield operation.as_strategy()
    names = {one.name for one in operation.path_parameters} & set(KNOWN)
    if names and operation.method != "delete":
        yield operation.as_strategy(path_parameters={name: KNOWN[name] for name in names})
    yield operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)


def send_any(visitor: Visitor, operation: Any, wrong: list[Exception]) -> Counter[int]:
    """Send generated cases of one operation; return how often each status came, and add to *wrong* what was wrong."""
    statuses: Counter[int] = Counter()
    for strategy in strategies(operation):

        @settings(max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate], derandomize=True,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(case=strategy)
        def send(case: Any) -> None:
            statuses[visitor.check(rein(case)).status_code] += 1

        try:
            send()
        except Unsatisfiable:
            pass  # without a parameter there is nothing that the document does not allow
        except Exception as error:  # noqa: BLE001 - all that is wrong is told at once
            error.add_note(operation.label)
            wrong.append(error)
    return statuses


def rein(case: Any) -> Any:
    """Return the case so that its answer comes soon, and what the other cases need stays."""
    label = case.operation.label
    if label.endswith("/capture") and isinstance(case.query.get("for", 60.0), int | float):
        case.query = {**case.query, "for": 0.1}
    assume(label != "DELETE /v1/apps/{app}" or case.path_parameters["app"] != APP)
    return case
