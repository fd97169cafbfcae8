"""One inspector for all tests of a module that do it no harm; a lane of its own for each test."""

from collections.abc import Iterator

import pytest

from tests.inspect.rig import Inspector, an_inspector
from tests.proxy.rig import Lane, a_lane


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspector]:
    with an_inspector(tmp_path_factory.mktemp("i")) as made:
        yield made


@pytest.fixture
def lane(inspector: Inspector) -> Iterator[Lane]:
    with a_lane() as made:
        yield made
