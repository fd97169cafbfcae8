"""Recreate: requests wait while the old one stops and the new one starts; never two writers."""

from __future__ import annotations

from dataclasses import replace

from controller.plan.course import Course
from controller.plan.picture import Picture
from controller.plan.prepare import is_before_due
from controller.plan.probing import proven
from controller.plan.situation import Release, Rollout
from controller.plan.slots import fill_slots
from controller.plan.strategies.rolling import plan_rolling
from controller.plan.strategies.step import Step, deadline_s, enter, retiring, rules_now, soonest, stand
from controller.spec.model import Recreate
from controller.world.model import Replica

BACK_AFTER_S = 2.0
"""How long a newer release may take to be prepared in the middle of a hold before the old one is started again."""


def plan_recreate(p: Picture, release: Release, rollout: Rollout) -> Step:
    """Return the next step: hold and stop the old, start the new, let the requests go."""
    live = p.live
    old, is_alone = p.others(release), is_stopped(p, release)
    if is_before_due(p, release, rollout) and has_running(p.replicas):
        return Step(course=_holding(p, release, p.replicas), rollout=_waiting(p, rollout, "the old replicas to stop"))
    is_same = live is not None and live.container_digest == release.container_digest
    if is_same and (is_alone or has_running(p.of(release))):
        return plan_rolling(p, release, rollout)
    if not is_alone:
        return Step(course=_holding(p, release, old), rollout=_waiting(p, rollout, "the old replicas to stop"))
    muster = p.muster(release)
    filling = fill_slots(p, release, muster, release.reason)
    rollout = stand(p, rollout, release, muster)
    is_final = len(proven(p, muster.keep)) == release.spec.replicas
    course = replace(
        _holding(p, release, old),
        rules_of=release.spec if is_final else rules_now(p, release).spec,
        serve=proven(p, filling.serve) if is_final else (),
        retire=filling.retire,
        fill=filling.operations,
        mode="serve" if is_final or live is None else "hold",
        because=f"release {release.number} is ready" if is_final else "",
        look_again_s=soonest(filling.look_again_s, deadline_s(p, rollout)),
    )
    return Step(course=course, rollout=rollout, is_final=is_final)


def is_stopped(p: Picture, release: Release) -> bool:
    """Say whether no other container of the app runs: the new one may start."""
    others_before = (r for r in p.s.world.replicas if r.kind == "before" and r.release != release.number)
    return not has_running((*p.others(release), *others_before))


def is_held(p: Picture) -> bool:
    """Say whether the published table has requests wait while nobody of what serves takes them."""
    published = p.s.world.routing.published
    return published is not None and published.mode == "hold"


def plan_pause(p: Picture, release: Release, live: Release) -> Course:
    """Return the course while *release* is prepared in the middle of a hold that an earlier one began.

    Its image is mostly there already: then the hold just lasts, and what runs may be its own. If preparing takes
    longer, the previous release comes back meanwhile.
    """
    since = p.rollout.since or p.s.now
    left_s = since.steady + BACK_AFTER_S - p.s.now.steady
    if left_s > 0 and not p.ready(p.of(live)):
        return replace(_holding(p, live, ()), look_again_s=left_s)
    return plan_way_back(p, release, live)


def plan_way_back(p: Picture, release: Release, live: Release) -> Course:
    """Return the course from a failed *release* to the old container, started again."""
    new = p.others(live)
    if has_running(new):
        return replace(_holding(p, live, ()), retire=retiring(new, "the previous release comes back"))
    muster = p.muster(live)
    filling = fill_slots(p, live, muster, f"release {release.number} failed")
    ready = p.ready(filling.serve)
    return Course(
        rules_of=live.spec,
        serve=ready,
        retire=(*filling.retire, *retiring(new, "the previous release comes back")),
        fill=filling.operations,
        mode="serve" if ready else "hold",
        hold_s=hold_s(release),
        look_again_s=filling.look_again_s,
    )


def hold_s(release: Release) -> float:
    """Return how long each request may wait."""
    strategy = release.spec.strategy
    return strategy.hold if isinstance(strategy, Recreate) else Recreate().hold


def has_running(replicas: tuple[Replica, ...]) -> bool:
    """Say whether any of them runs or is paused."""
    return any(r.state in ("running", "paused") for r in replicas)


def _holding(p: Picture, release: Release, old: tuple[Replica, ...]) -> Course:
    return Course(
        rules_of=rules_now(p, release).spec,
        park=tuple((r, "makes room for the new one") for r in old),
        mode="hold" if p.live else "serve",
        hold_s=hold_s(release),
        drain_s=hold_s(release) / 3,
        because="requests wait while the app is recreated",
    )


def _waiting(p: Picture, rollout: Rollout, what: str) -> Rollout:
    return replace(enter(p, rollout, "waiting"), waits_for=what)
