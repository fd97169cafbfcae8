"""Blue/green: all of green ready beside blue, then one switch."""

from __future__ import annotations

from dataclasses import replace

from controller.plan.course import Course
from controller.plan.picture import Picture
from controller.plan.probing import proven
from controller.plan.situation import Release, Rollout
from controller.plan.slots import Filling, fill_slots
from controller.plan.strategies.rolling import plan_rolling
from controller.plan.strategies.step import (
    Step,
    assets_s,
    coming_rules,
    deadline_s,
    enter,
    retiring,
    rules_now,
    serving_or_own,
    soonest,
    stand,
)
from controller.spec.model import BlueGreen


def plan_blue_green(p: Picture, release: Release, rollout: Rollout) -> Step:
    """Return green's next step, or the switch."""
    live = p.live
    if live is not None and live.container_digest == release.container_digest:
        return plan_rolling(p, release, rollout)  # the same containers stay: nothing to stand beside
    muster = p.muster(release)
    green = fill_slots(p, release, muster, release.reason)
    is_ready = len(proven(p, muster.keep)) == release.spec.replicas
    rollout = stand(p, rollout, release, muster)
    rollout = replace(rollout, ready_since=(rollout.ready_since or p.s.now) if is_ready else None)
    wait_s = _wait_s(p, release, rollout) if is_ready else None
    if is_ready and wait_s == 0.0:
        return switch(p, release, enter(p, rollout, "switching"), green)
    if is_ready:
        manual = _strategy(release).promote == "manual"
        rollout = replace(rollout, waits_for="promotion" if manual else "green to stay ready")
    return _beside(p, release, rollout, green, wait_s)


def _strategy(release: Release) -> BlueGreen:
    strategy = release.spec.strategy
    return strategy if isinstance(strategy, BlueGreen) else BlueGreen()


def _wait_s(p: Picture, release: Release, rollout: Rollout) -> float | None:
    """Return the seconds until ready green may switch; 0: now, None: not before a person says so."""
    strategy = _strategy(release)
    if rollout.promoted or p.live is None or rollout.kind in ("rollback", "undo"):
        return 0.0
    if strategy.promote == "manual" and strategy.promote_after == 0:
        return None
    since = rollout.ready_since or p.s.now
    return max(0.0, since.steady + strategy.promote_after - p.s.now.steady)


def _beside(p: Picture, release: Release, rollout: Rollout, green: Filling, wait_s: float | None) -> Step:
    live = p.live
    blue = fill_slots(p, live, p.muster(live), "heals what serves") if live else None
    serving = (*(blue.serve if blue else ()), *p.outgoing(release))
    serve = serving_or_own(p, tuple(dict.fromkeys(serving)), green.serve)
    shown = p.ready(green.serve) if live and _strategy(release).preview_host is not None else ()
    course = Course(
        rules_of=rules_now(p, release).spec,
        serve=serve,
        preview=tuple(r for r in shown if r not in serve),
        retire=(
            *green.retire,
            *(blue.retire if blue else ()),
            *retiring(tuple(r for r in p.strays(release) if live is None or r not in p.of(live)), "a newer release"),
        ),
        fill=(*(blue.operations if blue else ()), *green.operations),
        drain_s=(live or release).spec.drain,
        coming=coming_rules(p, release, previewed=bool(shown)),
        look_again_s=soonest(wait_s, green.look_again_s, deadline_s(p, rollout)),
    )
    return Step(course=course, rollout=rollout)


def switch(p: Picture, release: Release, rollout: Rollout, green: Filling) -> Step:
    """Return the one publication after which *release* serves alone; what served stays warm."""
    blue = p.outgoing(release)
    resting = tuple(r for r in p.of(p.live) if r.state == "running" and not p.is_leaving(r))
    course = Course(
        rules_of=release.spec,
        serve=proven(p, green.serve),
        rest=resting,
        retire=(
            *green.retire,
            *retiring(tuple(r for r in (*blue, *p.strays(release)) if r not in resting), "a newer release"),
        ),
        fill=green.operations,
        drain_s=(p.live or release).spec.drain,
        assets_s=assets_s(p, release),
        because=f"switch to release {release.number}",
    )
    return Step(course=course, rollout=rollout, is_final=True)
