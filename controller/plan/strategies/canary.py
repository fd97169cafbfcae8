"""Canary: a growing share of the traffic, step by step, and back at once if it does badly."""

from __future__ import annotations

import json
from dataclasses import replace
from math import ceil

from controller.plan.begin import fail
from controller.plan.course import Course
from controller.plan.picture import Muster, Picture
from controller.plan.probing import proven
from controller.plan.situation import Decision, Release, Rollout
from controller.plan.slots import Filling, fill_slots
from controller.plan.strategies.blue_green import switch
from controller.plan.strategies.rolling import plan_rolling
from controller.plan.strategies.step import Step, coming_rules, deadline_s, enter, retiring, rules_now, soonest, stand
from controller.spec.model import Canary, CanaryStep
from controller.world.model import Traffic

LOOK_S = 1.0
"""The workers tell their counts once a second."""


def plan_canary(p: Picture, release: Release, rollout: Rollout) -> Step:
    """Return the canary's next step, or the switch after the last one."""
    live, strategy = p.live, release.spec.strategy
    is_moved_at_once = rollout.kind in ("rollback", "undo") or release.spec.replicas == 0
    if live is None or not isinstance(strategy, Canary) or live.container_digest == release.container_digest:
        return plan_rolling(p, release, rollout)
    if is_moved_at_once:
        return plan_rolling(p, release, rollout)
    number = _number(rollout)
    if rollout.promoted or number > len(strategy.steps):
        return _take_all(p, release, live, rollout, strategy)
    return _share(p, release, live, rollout, strategy)


def judge_canary(p: Picture, release: Release, rollout: Rollout) -> Decision | None:
    """Return the decision that undoes a canary whose limits are broken; None where none is."""
    strategy = release.spec.strategy
    if not isinstance(strategy, Canary) or rollout.ready_since is None or rollout.promoted:
        return None
    seen, limits = _since(p, release, rollout), strategy.abort_on
    if seen.requests < limits.min_requests:
        return None
    at = f"canary at {strategy.steps[_number(rollout) - 1].weight}%"
    if limits.error_rate is not None and seen.error_rate > limits.error_rate:
        share = f"{seen.error_rate:.1%} of {seen.requests} answers were errors, allowed {limits.error_rate:.1%}"
        return fail(p, f"{at}: {share}", outcome="rolled_back")
    if limits.p95 is not None and seen.p95_s > limits.p95:
        return fail(p, f"{at}: p95 above {limits.p95:g} s over {seen.requests} answers", outcome="rolled_back")
    return None


def _number(rollout: Rollout) -> int:
    return int(rollout.data.get("canary", "1"))


def _share(p: Picture, release: Release, live: Release, rollout: Rollout, strategy: Canary) -> Step:
    number = _number(rollout)
    step = strategy.steps[number - 1]
    before = strategy.steps[number - 2].weight if number > 1 else 0
    wanted = min(release.spec.replicas, max(1, ceil(release.spec.replicas * step.weight / 100)))
    muster = p.muster(release)
    filling = fill_slots(p, release, muster, release.reason, budget=wanted - len(muster.keep))
    ready = len(proven(p, muster.keep))
    is_ready = ready >= wanted
    weight = step.weight if is_ready else before
    course = _beside(p, release, live, filling, weight)
    lacking = f"{ready} of {wanted} replicas ready for {step.weight}%"
    share = f"{step.weight}% of the requests for {step.hold:g} s"
    rollout = stand(
        p,
        rollout,
        release,
        muster,
        phase="waiting" if is_ready else "starting",
        step=number,
        waits_for=share if is_ready else lacking,
    )
    rollout = replace(rollout, steps=len(strategy.steps))
    if not is_ready:
        return Step(course=course, rollout=replace(rollout, ready_since=None))
    return Step(course=course, rollout=_hold(p, release, rollout, course, step, strategy))


def _hold(
    p: Picture, release: Release, rollout: Rollout, course: Course, step: CanaryStep, strategy: Canary
) -> Rollout:
    """Count the hold from the moment at which the confirmed table has the weights; then go one step on."""
    routing = p.s.world.routing
    is_confirmed = routing.settled and routing.confirmed is not None and routing.confirmed.weights == course.weights
    if rollout.ready_since is None:
        if not is_confirmed:
            return rollout
        counts = _keep_counts(p.s.world.traffic.get(release.number, Traffic()))
        return replace(rollout, ready_since=p.s.now, data={**rollout.data, "counts": counts})
    if p.s.now.steady < rollout.ready_since.steady + step.hold:
        return rollout
    few = _since(p, release, rollout).requests < strategy.abort_on.min_requests
    if few and not rollout.extended:
        return replace(rollout, ready_since=p.s.now, extended=True)
    data = {**rollout.data, "canary": str(_number(rollout) + 1)}
    return replace(rollout, data=data, ready_since=None, extended=False)


def _take_all(p: Picture, release: Release, live: Release, rollout: Rollout, strategy: Canary) -> Step:
    muster = p.muster(release)
    filling = fill_slots(p, release, muster, release.reason)
    rollout = replace(stand(p, rollout, release, muster), step=len(strategy.steps), steps=len(strategy.steps))
    if _is_full(p, release, muster):
        return switch(p, release, enter(p, rollout, "switching"), filling)
    weight = strategy.steps[min(_number(rollout) - 1, len(strategy.steps)) - 1].weight if _number(rollout) > 1 else 0
    return Step(course=_beside(p, release, live, filling, weight), rollout=rollout)


def _is_full(p: Picture, release: Release, muster: Muster) -> bool:
    return len(proven(p, muster.keep)) == release.spec.replicas


def _beside(p: Picture, release: Release, live: Release, filling: Filling, weight: int) -> Course:
    old = fill_slots(p, live, p.muster(live), "heals what serves")
    serving = tuple(dict.fromkeys((*old.serve, *p.outgoing(release))))
    new = proven(p, filling.serve) if weight else ()
    return Course(
        rules_of=rules_now(p, release).spec,
        serve=(*p.routable(serving), *new),
        retire=(
            *filling.retire,
            *old.retire,
            *retiring(tuple(r for r in p.strays(release) if r not in p.of(live)), "a newer release"),
        ),
        fill=(*old.operations, *filling.operations),
        drain_s=live.spec.drain,
        coming=coming_rules(p, release),
        weights=((live.number, 100 - weight), (release.number, weight)) if new else (),
        because=f"{weight}% for release {release.number}" if new else "",
        look_again_s=soonest(LOOK_S, filling.look_again_s, deadline_s(p, p.rollout)),
    )


def _keep_counts(traffic: Traffic) -> str:
    return json.dumps([traffic.requests, traffic.errors, list(traffic.buckets)])


def _since(p: Picture, release: Release, rollout: Rollout) -> Traffic:
    """Return what the new release answered since the step's share was confirmed."""
    now = p.s.world.traffic.get(release.number, Traffic())
    requests, errors, buckets = json.loads(rollout.data.get("counts", "[0, 0, []]"))
    before = [*buckets, *([0] * (len(now.buckets) - len(buckets)))]
    return replace(
        now,
        requests=max(0, now.requests - requests),
        errors=max(0, now.errors - errors),
        buckets=tuple(max(0, n - b) for n, b in zip(now.buckets, before, strict=False)),
    )
