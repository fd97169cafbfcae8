from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.store import Store
from tests.store.kit import MovedClock, running


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "database.db"


@pytest.fixture
def store(path: Path, clock: MovedClock) -> Iterator[Store]:
    with running(path, clock) as one:
        yield one
