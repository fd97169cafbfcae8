"""A fresh lane for each test."""

from collections.abc import Iterator

import pytest

from tests.proxy.rig import Lane, a_lane


@pytest.fixture
def lane() -> Iterator[Lane]:
    with a_lane() as made:
        yield made
