from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path).open() as opened:
        yield opened


@pytest.fixture
def client(stage: Stage) -> Iterator[httpx.Client]:
    with stage.client() as opened:
        yield opened
