"""Canary: a growing share of the traffic, step by step, and back at once if it does badly."""

from __future__ import annotations

from controller.plan.picture import Picture
from controller.plan.situation import Release, Rollout
from controller.plan.strategies.rolling import plan_rolling
from controller.plan.strategies.step import Step


def plan_canary(p: Picture, release: Release, rollout: Rollout) -> Step:
    """Return the next step."""
    return plan_rolling(p, release, rollout)
