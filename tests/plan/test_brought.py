"""An order that was judged brings what was judged, or is turned down."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.plan.brought import NOTHING, find_brought
from controller.plan.decide import decide
from controller.plan.picture import Picture
from controller.plan.situation import Memory, Order, Release, Situation
from controller.spec.digest import digest_spec
from controller.spec.model import AppSpec
from tests.builders import a_situation, a_spec, at


def a_release(number: int, spec: AppSpec, **fields: Any) -> Release:
    return Release(number=number, spec=spec, digest=digest_spec(spec), image_id=f"sha256:{number}", **fields)


def history() -> Situation:
    """Releases 1 and 2 were live, 3 serves and is what the file asks for."""
    specs = [a_spec(image=f"shop:{number}") for number in (1, 2, 3)]
    releases = {
        number: a_release(number, spec, was_live=True, outcome="superseded")
        for number, spec in enumerate(specs, start=1)
    }
    releases[3] = replace(releases[3], outcome="live")
    return a_situation(specs[2], memory=Memory(last_release=3, live=3), releases=releases)


def asked(situation: Situation, **fields: Any) -> tuple[Situation, Order]:
    order = Order(**({"id": 9, "app": "shop", "verb": "rollback", "by": "token ci", "at": at()} | fields))
    return replace(situation, orders=(order,)), order


def test_a_rollback_brings_what_was_judged() -> None:
    situation, order = asked(history())
    brought = find_brought(Picture(situation), order)
    assert brought is not None
    assert brought.spec.image == "shop:2"
    decision = decide(replace(situation, orders=(replace(order, digest=brought.digest),)))
    assert decision.answers[0].result == "release"
    assert decision.releases[-1].spec.image == "shop:2"


@pytest.mark.parametrize("judged", [NOTHING, digest_spec(a_spec(image="shop:1"))])
def test_a_rollback_that_would_bring_something_else_is_turned_down(judged: str) -> None:
    situation, _ = asked(history(), digest=judged)
    decision = decide(situation)
    assert (decision.answers[0].result, decision.memory.rollout) == ("conflict", None)
    assert decision.memory.change == 9


def test_an_order_that_was_not_judged_brings_anything() -> None:
    situation, _ = asked(history(), to=1)
    assert decide(situation).releases[-1].spec.image == "shop:1"


@pytest.mark.parametrize("verb", ["suspend", "maintenance"])
def test_orders_that_bring_nothing_are_carried_out(verb: Any) -> None:
    situation, _ = asked(history(), verb=verb, digest=NOTHING, on=True, message="back soon")
    decision = decide(situation)
    assert decision.memory.suspended or decision.memory.maintenance == "back soon"
