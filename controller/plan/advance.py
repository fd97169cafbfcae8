"""An open rollout, from its first preparation to its end: forward, back, and what follows the switch."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from controller.plan.begin import Start, begin, end_failed, end_live, keep_old_s, switched
from controller.plan.course import Course, carry_out
from controller.plan.operations import KeepLogs, PublishRoutes
from controller.plan.picture import Muster, Picture
from controller.plan.prepare import prepare, run_before
from controller.plan.settle import NOT_STARTED
from controller.plan.situation import Decision, Release, Rollout
from controller.plan.slots import Filling, fill_slots
from controller.plan.steady import serve_on
from controller.plan.strategies.blue_green import plan_blue_green
from controller.plan.strategies.canary import judge_canary, plan_canary
from controller.plan.strategies.recreate import has_running, is_held, is_stopped, plan_recreate, plan_way_back
from controller.plan.strategies.rolling import plan_rolling
from controller.plan.strategies.step import Step, assets_s, enter, retiring, soonest
from controller.plan.trouble import find_trouble
from controller.spec.model import BlueGreen, Canary, Recreate, Rolling
from controller.world.model import Replica


def advance(p: Picture, release: Release, rollout: Rollout) -> Decision:
    """Return the next step of the open rollout."""
    if rollout.switched is not None:
        return _after_switch(p, release, rollout)
    if rollout.failing:
        return _fall_back(p, release, rollout)
    if (preparation := prepare(p, release, rollout)) is not None:
        return _meanwhile(p, preparation, None)
    if (trouble := find_trouble(p, release, rollout) or judge_canary(p, release, rollout)) is not None:
        return trouble
    if _is_time_for_before(p, release) and (preparation := run_before(p, release, rollout)) is not None:
        return _meanwhile(p, preparation, plan_recreate(p, release, rollout).course)
    return _take(p, _strategy_step(p, release, rollout))


def _strategy_step(p: Picture, release: Release, rollout: Rollout) -> Step:
    strategy = release.spec.strategy
    match strategy:
        case Rolling():
            return plan_rolling(p, release, rollout)
        case Canary():
            return plan_canary(p, release, rollout)
        case BlueGreen():
            return plan_blue_green(p, release, rollout)
        case Recreate():
            return plan_recreate(p, release, rollout)
        case _:
            assert_never(strategy)


def _take(p: Picture, step: Step) -> Decision:
    """Carry the step out; once its last publication is confirmed, the switch has happened."""
    rollout = enter(p, step.rollout, "switching") if step.is_final else step.rollout
    decision = carry_out(p, step.course, replace(p.s.memory, rollout=rollout))
    if step.is_final and p.s.world.routing.settled and not _publishes(decision):
        return switched(Picture(replace(p.s, memory=decision.memory)))
    return decision


def _publishes(decision: Decision) -> bool:
    return any(isinstance(o, PublishRoutes) for o in decision.operations)


def _is_time_for_before(p: Picture, release: Release) -> bool:
    return release.spec.strategy.type == "recreate" and is_stopped(p, release) and not has_running(p.replicas)


def _meanwhile(p: Picture, preparation: Decision, held: Course | None) -> Decision:
    """Do *preparation* while what serves is kept serving, or while *held* keeps the requests waiting."""
    if not preparation.operations and preparation.look_again_s is None:
        return preparation
    now = Picture(replace(p.s, memory=preparation.memory))
    upkeep = carry_out(now, replace(held, fill=()), now.s.memory) if held else serve_on(now, p.target)
    return replace(
        preparation,
        memory=upkeep.memory,
        operations=(*preparation.operations, *upkeep.operations),
        look_again_s=soonest(preparation.look_again_s, upkeep.look_again_s),
    )


def _fall_back(p: Picture, release: Release, rollout: Rollout) -> Decision:
    """Take the new release away and bring back what served, then close the rollout as failed."""
    live = p.live
    is_same = live is not None and live.container_digest == release.container_digest
    if is_same and not is_held(p):
        return end_failed(p)
    new = () if is_same else p.of(release)
    if not new and _is_back(p, live) and p.s.world.routing.settled:
        return end_failed(p)
    if live is None:
        course = Course(rules_of=release.spec, retire=retiring(p.replicas, "its release failed"))
        return carry_out(p, course, p.s.memory)
    if release.spec.strategy.type == "recreate":
        return carry_out(p, plan_way_back(p, release, live), p.s.memory)
    step = plan_rolling(p, live, rollout)
    course = replace(step.course, rest=(), because=f"release {release.number} is undone")
    if _is_out_of_patience(p, live, rollout):
        course = replace(course, serve=p.routable(p.muster(live).keep), retire=retiring(p.others(live), "it failed"))
    return carry_out(p, course, p.s.memory)


def _is_back(p: Picture, live: Release | None) -> bool:
    """Say whether what served before the recreate runs again, or cannot be waited for any longer."""
    rollout = p.s.memory.rollout
    if live is None or rollout is None or p.ready(p.muster(live).keep) or live.spec.replicas == 0:
        return True
    return _is_out_of_patience(p, live, rollout)


def _is_out_of_patience(p: Picture, live: Release, rollout: Rollout) -> bool:
    since = rollout.since or p.s.now
    # With `recreate` the old one starts again only after the new one has stopped, which may take its whole grace.
    stopping_s = p.goal.spec.stop_grace if p.goal.spec.strategy.type == "recreate" else 0.0
    if p.s.now.steady <= since.steady + live.spec.deadline + stopping_s:
        return False
    # Whatever held us up before (a crash of ours, a slow engine), the old one is started once at least, and then asked
    # for as long as any other is.
    running = [r for r in p.muster(live).keep if r.state == "running"]
    if not running:
        return NOT_STARTED in rollout.data or p.s.memory.exits > rollout.exits
    verdicts = [p.s.world.verdicts.get(r.id) for r in running]
    return all(v is not None and p.s.now.steady - v.since > live.spec.deadline for v in verdicts)


def _after_switch(p: Picture, release: Release, rollout: Rollout) -> Decision:
    """Drain the old, watch the new, and end: live, or undone."""
    muster = p.muster(release)
    filling = fill_slots(p, release, muster, f"heals release {release.number}")
    reason = rollout.failing or broken_bake(p, release, rollout, muster)
    if reason and not _still_keeps_logs(filling):
        return _undo(p, release, rollout, reason)
    bake_s = _left_s(p, rollout, _bake_s(release, rollout))
    keep_s = _left_s(p, rollout, keep_old_s(release, rollout))
    old = p.others(release)
    is_drained = all(p.entry(r) is None and p.confirmed_entry(r) is None for r in old if r.state == "running")
    if is_drained and bake_s == 0 and p.s.world.routing.settled and not (old and keep_s == 0):
        return end_live(p)
    phase = enter(p, rollout, "baking" if is_drained and bake_s else "draining")
    phase = replace(phase, waits_for=_say_wait(is_drained=is_drained, bake_s=bake_s))
    course = _leave_old(p, release, filling, old, is_over=is_drained and bake_s == 0 and keep_s == 0)
    if reason and not course.serve:
        course = _call_back(p, course)
    course = replace(course, look_again_s=soonest(filling.look_again_s, bake_s or None, keep_s or None))
    return carry_out(p, course, replace(p.s.memory, rollout=phase))


def _call_back(p: Picture, course: Course) -> Course:
    """Have the warm old ones serve at once: nothing of the new is left, and it is undone once its log is kept."""
    warm = p.ready(course.rest)
    return replace(course, serve=warm, rest=tuple(r for r in course.rest if r not in warm))


def _say_wait(*, is_drained: bool, bake_s: float) -> str:
    if not is_drained:
        return "open requests of the old release"
    return "the bake to end" if bake_s else ""


def _leave_old(p: Picture, release: Release, filling: Filling, old: tuple[Replica, ...], *, is_over: bool) -> Course:
    previous = p.release(p.s.memory.rollout.previous) if p.s.memory.rollout else None
    kept = () if is_over else tuple(r for r in old if r in p.of(previous) and not p.is_leaving(r))
    parked = release.spec.strategy.type == "recreate" and not is_over
    stopped = tuple(r for r in old if parked and r not in kept and r in p.of(previous))
    rest = tuple(r for r in kept if r.state == "running")
    why = f"release {release.number} replaced it"
    return Course(
        rules_of=release.spec,
        serve=p.routable(filling.serve),
        rest=rest,
        park=retiring(stopped, why),
        retire=(*filling.retire, *retiring(tuple(r for r in old if r not in rest and r not in stopped), why)),
        fill=filling.operations,
        drain_s=previous.spec.drain if previous else release.spec.drain,
        assets_s=assets_s(p, release),
    )


def _still_keeps_logs(filling: Filling) -> bool:
    return any(isinstance(o, KeepLogs) for o in filling.operations)


def broken_bake(p: Picture, release: Release, rollout: Rollout, muster: Muster) -> str:
    """Say what broke the bake; empty: nothing, or there is no bake."""
    if _left_s(p, rollout, _bake_s(release, rollout)) == 0:
        return ""
    if muster.broken:
        replica, why = muster.broken[0]
        return _with_tail(p, f"{replica.name} {why} during the bake", replica)
    if p.s.memory.exits > rollout.exits:
        slot = max(p.s.memory.slots.items(), key=lambda item: item[1].exits)[1]
        return "\n".join((f"a replica {slot.reason} during the bake", *(f"  | {line}" for line in slot.lines)))
    for replica in muster.keep:
        verdict = p.s.world.verdicts.get(replica.id)
        if verdict and verdict.unready_count > rollout.counts.get(replica.id, 0):
            return f"{replica.name} became unready during the bake: {verdict.answer}"
    return ""


def _with_tail(p: Picture, reason: str, replica: Replica) -> str:
    return "\n".join((reason, *(f"  | {line}" for line in p.s.memory.tails.get(replica.id, ()))))


def _bake_s(release: Release, rollout: Rollout) -> float:
    return 0.0 if rollout.kind in ("rollback", "undo") else release.spec.bake


def _left_s(p: Picture, rollout: Rollout, length_s: float) -> float:
    switched_at = rollout.switched or p.s.now
    return max(0.0, switched_at.steady + length_s - p.s.now.steady) if length_s else 0.0


def _undo(p: Picture, release: Release, rollout: Rollout, reason: str) -> Decision:
    """Give the traffic back: a new release with the old spec; without an old one, nothing serves."""
    ended = replace(
        release,
        outcome="rolled_back" if rollout.previous else "failed",
        message=reason,
        finished=p.s.now,
    )
    failed = release.number if rollout.kind == "apply" else p.s.memory.failed
    old = p.release(rollout.previous)
    if old is None:
        memory = replace(p.s.memory, rollout=None, live=None, failed=failed, slots={})
        return Decision(memory=memory, releases=(ended,))
    start = Start(
        spec=old.spec,
        digest=old.digest,
        reason=f"undo of {release.number}",
        kind="undo",
        by="oton",
        image_id=old.image_id,
        image_healthcheck=old.image_healthcheck,
        restarts=old.restarts,
        secret_versions=old.secret_versions,
    )
    decision = begin(p, start)
    begun = tuple(r for r in decision.releases if r.number != release.number)
    memory = replace(decision.memory, failed=failed)
    return replace(decision, memory=memory, releases=(ended, *begun))
