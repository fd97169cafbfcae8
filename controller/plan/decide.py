"""
The one question of every pass: what is safe to do now?

A chain of guard clauses; the first that applies answers. Steps that only change what is known are taken at
once, one after the other, until there is something to do or nothing is left to know.
"""

from __future__ import annotations

from dataclasses import replace

from controller.clock import Instant, elapsed_s
from controller.plan.adopt import adopt
from controller.plan.advance import advance
from controller.plan.begin import Start, begin
from controller.plan.brought import answer_judged
from controller.plan.course import Course, carry_out
from controller.plan.outcomes import follow_what_serves
from controller.plan.picture import QUIET_S, Picture
from controller.plan.prepare import clean_one_offs
from controller.plan.reasons import explain
from controller.plan.situation import Decision, Kind, Memory, Rollout, Situation
from controller.plan.steady import keep_still, remove_app, serve_on
from controller.plan.strategies.step import soonest

MOST_STEPS = 20
"""More steps of pure knowledge than this in one pass would be a loop of ours."""


def decide(situation: Situation) -> Decision:
    """Return what to do now for one app, what is known now, and when to look again."""
    return follow_what_serves(situation, _decide(situation))


def _decide(situation: Situation) -> Decision:
    total = Decision(memory=situation.memory)
    for _ in range(MOST_STEPS):
        step = _step(Picture(situation))
        total = _join(total, step)
        is_news = step.memory != situation.memory or step.releases or step.answers
        if step.operations or not is_news:
            return total
        situation = _after(situation, step)
    return replace(total, look_again_s=1.0)


def _join(total: Decision, step: Decision) -> Decision:
    releases = {r.number: r for r in (*total.releases, *step.releases)}
    return replace(
        step,
        releases=tuple(releases[n] for n in sorted(releases)),
        answers=(*total.answers, *step.answers),
        notes=(*total.notes, *step.notes),
    )


def _after(situation: Situation, step: Decision) -> Situation:
    answered = {a.order for a in step.answers}
    return replace(
        situation,
        memory=step.memory,
        releases={**situation.releases, **{r.number: r for r in step.releases}},
        orders=tuple(o for o in situation.orders if o.id not in answered),
    )


def _step(p: Picture) -> Decision:
    memory, standing = p.s.memory, p.s.standing
    if not p.s.world.engine_up:
        return _wait_for_engine(p)
    if (tidy := _tidy(p)) != memory:
        return Decision(memory=tidy)
    if (adopted := adopt(p)) is not None:
        return adopted
    for order in p.s.orders:
        if (answered := answer_judged(p, order)) is not None:
            return answered if not answered.operations else _beside_upkeep(p, answered)
    if p.is_suspended:
        return _join(_freeze(p), keep_still(Picture(replace(p.s, memory=_freeze(p).memory))))
    if memory.frozen is not None:
        return Decision(memory=_thaw(memory, p.s.now))
    if standing.gone and not standing.held:
        return _with_cleaning(p, remove_app(p))
    if (start := find_start(p)) is not None:
        return begin(p, start)
    return _with_cleaning(p, _go_on(p))


def _wait_for_engine(p: Picture) -> Decision:
    """Stand still; only the routes of an app that never ran come to be, so that its visitors get 503 and not 404."""
    wanted = p.s.standing.wanted
    frozen = replace(_freeze(p), look_again_s=1.0)
    is_new = p.s.world.routing.published is None and p.live is None and not p.is_suspended
    if wanted is None or not is_new or not wanted.spec.routes:
        return frozen
    course = Course(rules_of=wanted.spec, because="accepted; the engine is away")
    return replace(carry_out(p, course, frozen.memory), look_again_s=1.0)


def _go_on(p: Picture) -> Decision:
    rollout, target = p.s.memory.rollout, p.target
    decision = advance(p, target, rollout) if rollout is not None and target is not None else serve_on(p)
    # An order that waits (an image check, a table to be confirmed) must not be forgotten.
    return replace(decision, look_again_s=soonest(decision.look_again_s, 0.5)) if p.s.orders else decision


def _beside_upkeep(p: Picture, answered: Decision) -> Decision:
    upkeep = _go_on(Picture(replace(p.s, memory=answered.memory, orders=())))
    return replace(
        _join(answered, upkeep),
        operations=(*answered.operations, *upkeep.operations),
        look_again_s=soonest(answered.look_again_s, upkeep.look_again_s),
    )


def _with_cleaning(p: Picture, decision: Decision) -> Decision:
    cleaning = clean_one_offs(p)
    if cleaning is None:
        return decision
    return replace(
        decision,
        operations=(*cleaning.operations, *decision.operations),
        look_again_s=soonest(cleaning.look_again_s, decision.look_again_s),
    )


def find_start(p: Picture) -> Start | None:
    """Return the release that the file asks for and that has a reason to begin now; None: nothing new."""
    wanted, memory = p.s.standing.wanted, p.s.memory
    if wanted is None or memory.held:
        return None
    if memory.pin and memory.pin.digest == wanted.digest:
        return _find_refresh(p, "restart")
    rollout, target, live = memory.rollout, p.target, p.live
    if rollout is not None and target is not None:
        is_ours = rollout.kind in ("apply", "restart") or rollout.data.get("digest") == wanted.digest
        asked = target.digest if rollout.kind == "apply" else None
        if rollout.kind == "undo" and (failed := p.release(memory.failed)):
            asked = failed.digest
        if asked == wanted.digest or (is_ours and rollout.kind != "apply" and _is_live(p, wanted.digest)):
            return None
        if rollout.kind == "rollback" and rollout.data.get("digest") == wanted.digest:
            return None
    elif _is_live(p, wanted.digest):
        return _find_refresh(p, "apply")
    failed = p.release(memory.failed)
    if failed and failed.digest == wanted.digest and failed.secret_versions == p.versions_of(wanted.spec):
        return None
    reason = explain(live.spec if live else None, wanted.spec)
    reason += f" ({wanted.why})" if wanted.why else ""
    return Start(spec=wanted.spec, digest=wanted.digest, reason=reason, by=wanted.by or "file")


def _is_live(p: Picture, digest: str) -> bool:
    return p.live is not None and p.live.digest == digest


def _find_refresh(p: Picture, kind: Kind) -> Start | None:
    """Return what serves with today's secret values, where one has changed and that was not tried in vain."""
    live = p.live
    if live is None or p.s.memory.rollout is not None:
        return None
    today, before = p.versions_of(live.spec), dict(live.secret_versions)
    in_vain = [r for r in p.s.releases.values() if r.digest == live.digest and r.outcome in ("failed", "rolled_back")]
    if live.secret_versions == today or any(r.secret_versions == today for r in in_vain):
        return None
    if not all(version for _, version in today):
        return None  # one was removed: what runs keeps its value until it is replaced for another reason
    changed = [name for name, version in today if before.get(name) != version]
    return Start(
        spec=live.spec,
        digest=live.digest,
        reason=f"secret changed: {', '.join(changed)}",
        kind=kind,
        by="oton",
        image_id=live.image_id,
        image_healthcheck=live.image_healthcheck,
        restarts=live.restarts,
    )


def _freeze(p: Picture) -> Decision:
    if p.s.memory.frozen is not None:
        return Decision(memory=p.s.memory)
    return Decision(memory=replace(p.s.memory, frozen=p.s.now))


def _thaw(memory: Memory, now: Instant) -> Memory:
    """Move every limit of the open rollout by the time in which nothing could move."""
    away_s = elapsed_s(memory.frozen, now) if memory.frozen else 0.0
    rollout = memory.rollout
    if rollout is not None:
        rollout = replace(
            rollout,
            since=_later(rollout.since, away_s),
            switched=_later(rollout.switched, away_s),
            ready_since=_later(rollout.ready_since, away_s),
            deadlines={i: d.later(away_s) for i, d in rollout.deadlines.items()},
        )
    return replace(memory, frozen=None, rollout=rollout)


def _later(moment: Instant | None, seconds: float) -> Instant | None:
    return moment.later(seconds) if moment else None


def _tidy(p: Picture) -> Memory:
    """Forget what concerns containers that are gone, and slots that have been quiet; rebase another boot's moments."""
    memory = p.s.memory
    there = {r.id for r in p.s.world.replicas}
    stopping = {i: m for i, m in memory.stopping.items() if i in there}
    tails = {i: t for i, t in memory.tails.items() if i in there}
    quiet = {i: s for i, s in memory.slots.items() if not _is_quiet(p, i)}
    if (stopping, tails, quiet) != (dict(memory.stopping), dict(memory.tails), dict(memory.slots)):
        memory = replace(memory, stopping=stopping, tails=tails, slots=quiet)
    rollout = memory.rollout
    if rollout is not None and rollout.since is not None and rollout.since.boot != p.s.now.boot:
        memory = replace(memory, rollout=_rebase(rollout, p.s.now))
    return memory


def _rebase(rollout: Rollout, now: Instant) -> Rollout:
    return replace(
        rollout,
        since=now,
        switched=now if rollout.switched else None,
        ready_since=None,
        deadlines={},
    )


def _is_quiet(p: Picture, index: int) -> bool:
    slot = p.s.memory.slots[index]
    if slot.last is None or slot.last.boot != p.s.now.boot:
        return True
    runs = any(r.index == index and p.is_ready(r) for r in p.replicas)
    return runs and p.s.now.steady - slot.last.steady > QUIET_S
