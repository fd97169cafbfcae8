"""Breaking a pass on purpose: once, where it was asked, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.errors import Retry
from controller.loop.failpoints import pass_point


def test_nothing_breaks_unless_asked() -> None:
    pass_point("observed", "")
    pass_point("observed", "intended=raise")


def test_a_point_breaks_at_the_passing_that_was_named_and_not_again() -> None:
    setting = "before:StopReplica#2=raise"
    pass_point("before:StopReplica", setting)
    pass_point("after:StopReplica", setting)
    with pytest.raises(Retry, match="before:StopReplica"):
        pass_point("before:StopReplica", setting)
    pass_point("before:StopReplica", setting)


def test_an_order_in_a_file_is_used_up_as_it_breaks(tmp_path: Path) -> None:
    file = tmp_path / "failpoint"
    pass_point("settled", f"@{file}")
    for _ in range(2):
        file.write_text("settled#2=raise\n")
        pass_point("settled", f"@{file}")
        assert file.exists()
        with pytest.raises(Retry):
            pass_point("settled", f"@{file}")
        assert not file.exists()
    pass_point("settled", f"@{file}")
