"""What a pass sees and keeps, with every known secret as `***`: nothing that is stored or shown had it first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from controller.plan.situation import Done
from controller.world.model import Replica, Resolution, Verdict, World

Hide = Callable[[str], str]
"""Returns a text without the app's secrets."""


def mask_world(world: World, hide: Hide) -> World:
    """Return *world* with all text that comes out of containers masked."""
    return replace(
        world,
        replicas=tuple(_mask_replica(one, hide) for one in world.replicas),
        verdicts={key: _mask_verdict(one, hide) for key, one in world.verdicts.items()},
        resolutions={key: _mask_resolution(one, hide) for key, one in world.resolutions.items()},
    )


def mask_done(done: Done, hide: Hide) -> Done:
    """Return *done* with its text and lines masked."""
    return replace(done, text=hide(done.text), lines=tuple(hide(line) for line in done.lines))


def _mask_replica(replica: Replica, hide: Hide) -> Replica:
    if not (replica.error or replica.health_log or replica.drift):
        return replica
    return replace(replica, error=hide(replica.error), health_log=hide(replica.health_log), drift=hide(replica.drift))


def _mask_verdict(verdict: Verdict, hide: Hide) -> Verdict:
    return replace(verdict, answer=hide(verdict.answer)) if verdict.answer else verdict


def _mask_resolution(resolution: Resolution, hide: Hide) -> Resolution:
    return replace(resolution, error=hide(resolution.error)) if resolution.error else resolution
