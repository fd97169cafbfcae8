from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.intake.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    root = tmp_path / "desired"
    root.mkdir()
    rig = Rig(root)
    yield rig
    rig.desired.close()
