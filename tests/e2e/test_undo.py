"""F03: a release that gets ready and then fails is undone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.parts.service import Service, a_spec
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

Images = Callable[..., str]


def test_a_release_that_crashes_while_it_bakes_is_undone_once(service: Service, backend: Images) -> None:
    service.write_spec(a_spec(image=backend("v1"), logs=service.logs, bake="10s"))
    service.wait_app("shop", lambda row: row["sync"] == "synced", 60)
    (service.root / "bad.yaml").write_text(
        a_spec(image=backend("v2"), logs=service.logs, bake="10s", environment={"CRASH_AFTER_S": "4"})
    )
    done = service.oton("apply", "bad.yaml")
    assert done.returncode == 3, done.stdout + done.stderr
    service.wait_app("shop", lambda row: row["image"].endswith(":v1") and row["replicas"]["routed"] == 2, 60)
    wait_for(lambda: len(service.containers("shop")) == 2, 20, "nothing is left behind")
    outcomes = [(row["outcome"], row["reason"]) for row in service.releases("shop")]
    assert outcomes[0][0] == "live"
    assert outcomes[0][1].startswith("undo of 2")
    assert outcomes[1][0] == "rolled_back"
    assert len(outcomes) == 3
