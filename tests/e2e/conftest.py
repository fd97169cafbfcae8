"""A service for a whole module, and an app of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import FAILED
from tests.parts.service import Service
from tests.parts.stage import Stage

_numbers = itertools.count(1)


@contextmanager
def open_house(root: Path, settings: Mapping[str, str] | None = None) -> Iterator[Service]:
    """Yield a running service whose failpoint is read from `<root>/failpoint`."""
    service = Service(root, {"OTON_FAILPOINT": f"@{root / 'failpoint'}", **(settings or {})})
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One running service for the module's tests."""
    with open_house(tmp_path_factory.mktemp("house")) as service:
        yield service


@pytest.fixture
def stage(house: Service, request: pytest.FixtureRequest) -> Iterator[Callable[..., Stage]]:
    """Make apps of this test's own: `stage(replicas=2)`; what is left of them goes with the test."""
    made: list[Stage] = []

    def make(word: str = "shop", **defaults: object) -> Stage:
        made.append(Stage(house, f"{word}-{next(_numbers)}", **defaults))
        return made[-1]

    yield make
    (house.root / "failpoint").unlink(missing_ok=True)
    if request.node.stash.get(FAILED, False):
        print(f"--- log of the service ---\n{house.log_tail(150)}")
    for one in made:
        with suppress(AssertionError, OSError):  # the service goes with the module, and all that is left with it
            one.close()
