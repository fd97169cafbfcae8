"""Fixtures that several rooms share: a service of one's own, and a reason where no engine answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
from docker.errors import DockerException

from tests.parts.daemon import connect
from tests.parts.images import ensure_backend_image
from tests.parts.service import Service


@cache
def why_no_engine() -> str:
    """Return why no test can use the engine, or ""."""
    try:
        client = connect(5)
        try:
            client.ping()
        finally:
            client.close()
    except DockerException as error:
        return f"no Docker engine answers: {error}"
    return ""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--need-engine", action="store_true", help="fail where no engine answers, in place of skipping")


def pytest_configure(config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")
    if config.getoption("--need-engine") and not is_worker and (why := why_no_engine()):
        raise pytest.UsageError(why)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("e2e"):
            item.add_marker(pytest.mark.engine)
        if item.get_closest_marker("engine") and (why := why_no_engine()):
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


FAILED = pytest.StashKey[bool]()

Start = Callable[..., Service]


@pytest.fixture
def services(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    """Start services of this test's own: `services(name="a", start=True, settings={...})`; all end with the test."""
    made: list[Service] = []

    def start(name: str = "a", settings: Mapping[str, str] | None = None, *, start: bool = True) -> Service:
        service = Service(tmp_path / name, settings)
        made.append(service)
        if start:
            service.start()
        return service

    try:
        yield start
    finally:
        for service in made:
            if request.node.stash.get(FAILED, False):
                print(f"--- log of {service.root.name} ---\n{service.log_tail(120)}")
        errors = [error for service in reversed(made) if (error := close_quietly(service))]
        if errors:
            raise ExceptionGroup("services did not end", errors)


def close_quietly(service: Service) -> Exception | None:
    """Close one service; its trouble must not keep the others from being closed."""
    try:
        service.close()
    except Exception as error:  # noqa: BLE001 - whatever it was, the next service has to be closed too
        return error
    return None


@pytest.fixture
def service(services: Start) -> Service:
    """One running service."""
    return services()


@pytest.fixture(scope="session")
def backend() -> Callable[..., str]:
    """Make images of the test backend: `backend("v2", ANSWER_STATUS="500")` returns a reference."""
    return ensure_backend_image
