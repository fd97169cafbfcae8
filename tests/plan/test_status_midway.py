"""What `status` says of an app on its way to another number of replicas."""

from __future__ import annotations

from controller.queries.seen import Seen, explain_state
from controller.queries.status import render_row
from tests.builders import a_spec
from tests.plan.outside import Outside, an_outside


def seen(outside: Outside) -> Seen:
    situation = outside.situation
    return Seen(situation=situation, memory=situation.memory, releases=situation.releases)


def test_a_new_number_in_the_middle_of_a_canary_is_told_beside_what_serves() -> None:
    canary = {"type": "canary", "steps": [{"weight": 34, "hold": "1h"}]}
    outside = an_outside(strategy=canary, replicas=2)
    for replicas in (2, 4):
        outside.ask(a_spec(image="shop:2", strategy=canary, replicas=replicas))
        for _ in range(20):
            outside.pass_once()
            outside.react()
            outside.pass_time(0.05)
    row = render_row(seen(outside))
    assert (row["release"], row["target"]) == (1, 3)
    assert row["replicas"]["wanted"] == 2, "what serves wants two"
    assert row["message"].startswith("replicas 2 -> 4; ")
    outside.order("promote")
    outside.settle_down()
    assert render_row(seen(outside))["replicas"] == {"wanted": 4, "ready": 4, "routed": 4}
    assert explain_state(seen(outside)) == ""
