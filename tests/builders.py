"""Values for tests: good defaults, one line per case."""

from __future__ import annotations

from typing import Any

from controller.clock import Instant
from controller.plan.situation import Memory, Situation, Standing, Wanted
from controller.spec.digest import digest_spec
from controller.spec.model import AppSpec
from controller.world.model import World

BOOT = "boot-1"


def at(seconds: float = 0.0, boot: str = BOOT) -> Instant:
    """Return a moment: *seconds* after the tests' beginning of time, an hour after boot."""
    return Instant(wall=1_700_000_000.0 + seconds, steady=3600.0 + seconds, boot=boot)


def a_spec(**fields: Any) -> AppSpec:
    """Return a small web app; *fields* are the spec's own."""
    base: dict[str, Any] = {
        "name": "shop",
        "image": "shop:1",
        "port": 8000,
        "routes": [{"host": "shop.example.com"}],
    }
    return AppSpec.model_validate({**base, **fields})


def a_standing(spec: AppSpec | None, **fields: Any) -> Standing:
    """Return how the app stands with *spec* in force."""
    wanted = Wanted(spec=spec, digest=digest_spec(spec), file="desired/shop.yaml", by="file") if spec else None
    return Standing(app="shop", wanted=wanted, file="desired/shop.yaml", **fields)


def a_situation(spec: AppSpec | None = None, **fields: Any) -> Situation:
    """Return the situation of an app that is seen for the first time."""
    base: dict[str, Any] = {
        "app": "shop",
        "standing": a_standing(spec or a_spec()),
        "memory": Memory(),
        "world": World(),
        "now": at(),
    }
    return Situation(**{**base, **fields})
