"""Which apps wait for a person, and how that is said, with the next command."""

from __future__ import annotations

from collections.abc import Mapping

from controller.plan.inherit import heirs_of
from controller.plan.picture import Picture
from controller.plan.situation import Memory, Release, Standing


def say_suspended(p: Picture) -> str:
    """Say when an app that is suspended rolls out."""
    if p.s.memory.suspended:
        return f"{p.s.app} is suspended; it rolls out after: oton resume {p.s.app}"
    return f"{p.s.app} is suspended by its spec; it rolls out once {p.s.standing.file} no longer says suspend: true"


def say_removal_waits(p: Picture) -> str:
    """Say which person the removal waits for; empty: for none."""
    if p.is_suspended:
        return f"{p.s.app} is suspended; it is removed after: oton resume {p.s.app}"
    if p.live is None or not p.routable(p.of(p.live)):
        return ""
    stuck = [heir.app for heir in heirs_of(p) if heir.is_stuck]
    if not stuck:
        return ""
    return f"{p.s.app} serves on until {stuck[0]}, which takes its routes over, is ready; see: oton status {stuck[0]}"


def is_stuck(standing: Standing, memory: Memory, releases: Mapping[int, Release]) -> bool:
    """Say whether the app comes to what its file asks only by a person, or not at all."""
    wanted, rollout, failed = standing.wanted, memory.rollout, releases.get(memory.failed or 0)
    if standing.gone or wanted is None:
        return memory.suspended
    if memory.suspended or memory.held or wanted.spec.suspend:
        return True
    if rollout is not None:
        return bool(rollout.failing) or rollout.kind in ("rollback", "undo") or rollout.waits_for == "promotion"
    is_pinned = memory.pin is not None and memory.pin.digest == wanted.digest
    return is_pinned or (failed is not None and failed.digest == wanted.digest)


def is_resting(standing: Standing, memory: Memory, releases: Mapping[int, Release]) -> bool:
    """Say whether the app does not move by itself: it is stuck, or serves what its file asks."""
    live, wanted = releases.get(memory.live or 0), standing.wanted
    is_there = live is not None and wanted is not None and live.digest == wanted.digest and memory.rollout is None
    return is_there or is_stuck(standing, memory, releases)


def standing_still(memory: Memory) -> tuple[object, ...]:
    """Return what of *memory* decides whether the app comes to what its file asks, and has what it serves to give."""
    rollout = memory.rollout
    way = (bool(rollout.failing), rollout.kind, rollout.waits_for == "promotion") if rollout is not None else None
    return (memory.live, memory.removed, memory.suspended, memory.held, memory.pin, memory.failed, way)
