"""Rolling: a few new ones up, as many old ones out, until none is left."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.plan.course import Course
from controller.plan.picture import Muster, Picture
from controller.plan.probing import candidate_of, proven
from controller.plan.situation import Release, Rollout
from controller.plan.slots import fill_slots
from controller.plan.strategies.step import (
    Step,
    ask_s,
    assets_s,
    coming_rules,
    deadline_s,
    retiring,
    rules_now,
    soonest,
    stand,
)
from controller.spec.model import Rolling
from controller.world.model import Replica


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The numbers that a rolling rollout keeps."""

    most: int
    """Starting or serving at one time."""
    floor: int
    """Ready at any time, of what we do."""


def limits_of(release: Release) -> Limits:
    """Return the limits of the release's strategy; one that is not rolling rolls by surge 1."""
    strategy = release.spec.strategy if isinstance(release.spec.strategy, Rolling) else Rolling()
    wanted = release.spec.replicas
    surge, unavailable = strategy.limits(wanted)
    return Limits(most=wanted + surge, floor=max(0, wanted - unavailable))


def plan_rolling(p: Picture, release: Release, rollout: Rollout) -> Step:
    """Return the next wave."""
    muster, out = p.muster(release), p.outgoing(release)
    limits = limits_of(release)
    if limits.floor and not p.routable((*muster.keep, *out)) and (back := _called_back(p, release, rollout)):
        rollout, out = replace(rollout, released=rollout.released - {r.id for r in back}), (*out, *back)
    spare = _spare(p, muster, limits, len(out))
    room = limits.most - len(muster.keep) - len(out) - len(spare)
    filling = fill_slots(p, release, muster, release.reason, budget=room)
    going = _going(p, release, limits, out, lacking=len(muster.missing) - max(0, room))
    staying = tuple(r for r in out if r not in going)
    ready = len(proven(p, muster.keep))
    is_final = ready == release.spec.replicas and not staying
    rollout = replace(
        stand(p, rollout, release, muster, step=min(ready + 1, release.spec.replicas)),
        released=(rollout.released - {r.id for r in staying}) | {r.id for r in going},
    )
    spare = () if is_final else spare
    why = f"release {release.number} replaces it"
    gone = (*going, *(r for r in p.strays(release) if r not in staying))
    resting = tuple(r for r in gone if release.spec.bake and r.state == "running" and r.id in rollout.released)
    course = Course(
        rules_of=release.spec if is_final else rules_now(p, release).spec,
        serve=p.routable((*filling.serve, *staying, *spare)) or proven(p, muster.keep),
        rest=resting,
        retire=(
            *(one for one in filling.retire if one[0] not in spare),
            *retiring(tuple(r for r in gone if r not in resting), why),
        ),
        fill=filling.operations,
        drain_s=(p.live or release).spec.drain,
        assets_s=assets_s(p, release),
        coming=() if is_final else coming_rules(p, release),
        look_again_s=soonest(filling.look_again_s, deadline_s(p, rollout), ask_s(p, muster)),
    )
    return Step(course=course, rollout=rollout, is_final=is_final)


def _spare(p: Picture, muster: Muster, limits: Limits, out: int) -> tuple[Replica, ...]:
    """Return what is more than the release wants and serves on: it has not proved itself yet on what it keeps."""
    is_tried = any(candidate_of(p, replica) is not None for replica in muster.keep)
    if not limits.floor or (proven(p, muster.keep) and not is_tried):
        return ()
    ready = p.ready(muster.surplus)
    # Where something has to be started, there must be room for one.
    return ready[: max(0, limits.most - len(muster.keep) - out - 1)] if muster.missing else ready


def _called_back(p: Picture, release: Release, rollout: Rollout) -> tuple[Replica, ...]:
    """Return ready old ones that were taken out but not stopped yet: the new ones died, and nobody else is left."""
    old = tuple(r for r in p.of(p.live) if r.id in rollout.released and r not in p.of(release))
    return p.ready(old)


def _going(
    p: Picture, release: Release, limits: Limits, out: tuple[Replica, ...], *, lacking: int
) -> tuple[Replica, ...]:
    """Return the old ones that may leave now: ready ones above the floor, unready ones for room."""
    ready_out = p.ready(out)
    come = len(proven(p, p.muster(release).keep))
    ready = come + len(ready_out)
    draining = sum(1 for r in p.others(release) if r.state == "running" and r not in out and p.entry(r) is not None)
    may_drain = max(1, release.spec.replicas, p.live.spec.replicas if p.live else 0) - draining
    unready = tuple(r for r in out if r not in ready_out)
    for_room = unready if come == release.spec.replicas else unready[: max(0, lacking)]
    spare = max(0, min(ready - limits.floor, may_drain))
    return (*for_room, *ready_out[:spare])
