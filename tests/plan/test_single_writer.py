"""recreate: one writer at any time, and nobody's request is turned away, whatever arrives in the middle of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from controller.spec.model import AppSpec
from tests.builders import a_spec
from tests.plan.outside import Outside, an_outside

RECREATE = {"strategy": "recreate", "replicas": 1, "deadline": "20s"}
NEWER: dict[str, Callable[[Outside], object]] = {
    "a newer image": lambda outside: outside.ask(writer("shop:3")),
    "what serves": lambda outside: outside.ask(writer("shop:1")),
    "a newer image that rolls": lambda outside: outside.ask(a_spec(image="shop:3", replicas=1)),
    "another environment": lambda outside: outside.ask(writer("shop:2", environment={"A": "2"})),
    "a rollback": lambda outside: outside.order("rollback"),
    "a rollback by number": lambda outside: outside.order("rollback", to=1),
    "an abort": lambda outside: outside.order("abort"),
    "a restart": lambda outside: outside.order("restart"),
    "a missing image": lambda outside: outside.ask(writer("gone:1")),
}


def writer(image: str, **fields: object) -> AppSpec:
    return a_spec(**{**RECREATE, "image": image, **fields})


def holds_nobody_up(outside: Outside) -> bool:
    """Say whether a request that comes now is answered by a replica, or waits for one."""
    routes = outside.situation.world.routing.published
    return routes is not None and (routes.mode == "hold" or any(u.state == "ready" for u in routes.upstreams))


@pytest.mark.parametrize("before", [None, {"command": "migrate"}], ids=["plain", "before"])
@pytest.mark.parametrize("image", ["shop:2", "bad:2"])
@pytest.mark.parametrize("what", NEWER)
def test_whatever_comes_in_the_middle_of_a_recreate_there_is_one_writer_and_no_request_is_refused(
    what: str, image: str, before: dict[str, str] | None
) -> None:
    for passes in range(1, 12):
        outside = an_outside(**RECREATE)
        outside.ask(writer(image, **({"before": before} if before else {})))
        for _ in range(passes):
            outside.pass_once()
            outside.react()
            outside.pass_time(0.05)
        NEWER[what](outside)
        for _ in range(25):
            outside.pass_once()
            assert holds_nobody_up(outside), (passes, outside.story[-20:])
            outside.react()
            outside.pass_time(0.05)
        outside.settle_down()
        outside.check_rest()
