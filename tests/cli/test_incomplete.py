"""A release that is live without some of its routes is followed while they come, and no success without them."""

from __future__ import annotations

from typing import Any

import pytest

from controller.cli.follow import Watch

VIEW: dict[str, Any] = {
    "app": "b",
    "sync": "synced",
    "conditions": ["synced"],
    "health": "healthy",
    "maintenance": False,
    "release": 2,
    "image": "b:2",
    "target": None,
    "phase": "live",
    "step": None,
    "message": "",
    "replicas": {"wanted": 1, "ready": 1, "routed": 1},
    "missing_routes": ["x.test/"],
}
RELEASE = {"release": 2, "outcome": "live", "duration_s": 1.0, "image": "b:2", "message": ""}


class Service:
    """Answers with one view of the app and its release 2."""

    def __init__(self, **changes: Any) -> None:
        self.view = VIEW | changes

    def get(self, path: str) -> Any:
        return RELEASE if "releases" in path else self.view


class Screen:
    def __init__(self) -> None:
        self.shown: list[str] = []

    def show(self, app: str, text: str) -> None:
        self.shown.append(text)


def look(**changes: Any) -> tuple[Any, list[str]]:
    screen = Screen()
    watch = Watch(app="b", verb="apply", change=3, result="release", release=2)
    return watch.look(Service(**changes), screen, 0.0), screen.shown  # type: ignore[arg-type]


def test_routes_that_are_on_their_way_are_waited_for() -> None:
    end, shown = look()
    assert end is None
    assert shown == ["release 2 is live; x.test/ follows"]
    end, _ = look(missing_routes=[])
    assert end.code == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"sync": "invalid", "conditions": ["invalid"]},
        {"sync": "suspended", "conditions": ["suspended"]},
        {"sync": "pinned", "conditions": ["pinned"]},
        {"health": "down"},
        {"maintenance": True},
    ],
    ids=str,
)
def test_routes_that_do_not_come_by_themselves_are_a_conflict(changes: dict[str, Any]) -> None:
    end, _ = look(**changes)
    assert (end.code, end.hint) == (5, "oton status b")
    assert end.text == "release 2 is live, but another app still has x.test/"
