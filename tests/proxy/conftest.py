"""A fresh lane for each test, plain or with TLS in front."""

from collections.abc import Iterator

import pytest

from tests.proxy.rig import Lane, a_lane, an_app
from tests.proxy.shop import Shop


@pytest.fixture
def lane() -> Iterator[Lane]:
    with a_lane() as made:
        yield made


@pytest.fixture
def shop() -> Iterator[Shop]:
    with a_lane() as lane:
        lane.take(an_app(lane.backend()))
        made = Shop(lane)
        yield made
        lane.call(made.addon.close)
