"""The real engine for these tests: one bench for all that do not need their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.kit import Bench, a_bench
from tests.engine.relay import Relay, a_relay


@pytest.fixture(scope="session")
def shared_bench() -> Iterator[Bench]:
    with a_bench() as made:
        yield made


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    """A bench whose app has no containers, and whose network is there already."""
    shared_bench.rung.clear()
    shared_bench.renew()
    return shared_bench


@pytest.fixture
def relay() -> Iterator[Relay]:
    with a_relay() as made:
        yield made
