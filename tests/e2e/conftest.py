"""A service for a whole module, and an app of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.conftest import FAILED
from tests.parts.service import Service
from tests.parts.stage import Stage

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Service]:
    """One running service for the module's tests; OTON_FAILPOINT is read from `<root>/failpoint`."""
    root = tmp_path_factory.mktemp("house")
    service = Service(root, {"OTON_FAILPOINT": f"@{root / 'failpoint'}", **getattr(request.module, "SETTINGS", {})})
    try:
        service.start()
        yield service
    finally:
        service.close()


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
