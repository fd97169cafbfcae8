"""Hosts and paths on their way from one owner, or one release, to the next, under load."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.parts.service import Service
from tests.parts.stage import Stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MakeStage = Callable[..., Stage]


def test_a_route_that_waits_for_promotion_takes_no_request_from_what_serves(house: Service, stage: MakeStage) -> None:
    manual = {"type": "blue_green", "promote": "manual"}
    shop = stage("narrow", replicas=1, strategy=manual)
    shop.deploy("v1")
    routes = [{"host": shop.host}, {"host": shop.host, "path": "/api"}]
    with shop.load():
        assert shop.apply("v2", routes=routes).returncode == 9
        before = house.get("/api/x", host=shop.host)
        assert (before.status_code, before.headers["x-version"]) == (200, "v1")
        assert house.oton("promote", shop.name).returncode == 0
        after = house.get("/api/x", host=shop.host)
        assert (after.status_code, after.headers["x-version"]) == (200, "v2")
