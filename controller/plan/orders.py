"""What a person asked for, answered: each open order changes memory, begins a release, or is turned down."""

from __future__ import annotations

from dataclasses import replace

from controller.clock import elapsed_s
from controller.plan.begin import Start, begin, fail, idle_memory
from controller.plan.earlier import find_earlier, is_same
from controller.plan.operations import ResolveImage
from controller.plan.patience import say_removal_waits, say_suspended
from controller.plan.picture import Picture
from controller.plan.reasons import explain
from controller.plan.restart import plan_restart
from controller.plan.situation import Answer, Decision, Note, Order, Pin, Release, Result, Rollout

PATIENCE_S = 5.0
"""How long an uploaded spec may take to show up in the directory before its order is turned down."""


def answer_order(p: Picture, order: Order) -> Decision | None:
    """Return what the order changes now; None while it has to wait for something."""
    if p.s.memory.removed and order.verb not in ("apply", "delete", "retry"):
        return _turn_down(p, order, "missing", f"no app {p.s.app}")
    match order.verb:
        case "apply":
            return _apply(p, order)
        case "rollback":
            return _rollback(p, order)
        case "unpin":
            return _unpin(p, order)
        case "promote":
            return _promote(p, order)
        case "abort":
            return _abort(p, order)
        case "retry":
            return _retry(p, order)
        case "restart":
            return _restart(p, order)
        case "suspend" | "resume":
            return _suspend(p, order)
        case "maintenance":
            return _maintenance(p, order)
        case "delete":
            return _delete(p, order)


def _say(p: Picture, order: Order, result: Result, text: str = "", release: int | None = None) -> Decision:
    answer = Answer(order=order.id, result=result, release=release, text=text)
    return Decision(memory=replace(p.s.memory, change=max(p.s.memory.change, order.id)), answers=(answer,))


def _turn_down(p: Picture, order: Order, result: Result, text: str) -> Decision:
    decision = _say(p, order, result, text)
    return replace(decision, notes=(Note(f"{order.verb} by {order.by or 'someone'} rejected: {text}", "warning"),))


def _with(p: Picture, order: Order, decision: Decision, result: Result = "release", text: str = "") -> Decision:
    """Join an order's answer to the decision that carries it out."""
    rollout = decision.memory.rollout
    answer = Answer(
        order=order.id,
        result=result,
        release=rollout.release if rollout and result == "release" else None,
        text=text,
    )
    memory = replace(decision.memory, change=max(decision.memory.change, order.id))
    return replace(decision, memory=memory, answers=(*decision.answers, answer))


def _apply(p: Picture, order: Order) -> Decision | None:
    wanted, memory, target = p.s.standing.wanted, p.s.memory, p.target
    if p.s.standing.invalid or wanted is None or wanted.digest != order.digest:
        return _misplaced(p, order)
    if p.is_suspended:
        return _turn_down(p, order, "waiting", say_suspended(p))
    if memory.pin is not None and memory.pin.digest == wanted.digest:
        pinned = f"{p.s.app} is pinned to release {memory.live} by a rollback; to unpin it: oton unpin {p.s.app}"
        return _turn_down(p, order, "conflict", pinned)
    if target is not None and target.digest == wanted.digest and memory.rollout and memory.rollout.kind == "apply":
        if not memory.rollout.failing:
            return _say(p, order, "release", release=target.number)
        return None
    if (failed := p.release(memory.failed)) is not None and _is_its_own(order, failed):
        return _say(p, order, "release", release=failed.number)
    live = p.live
    if live is None or live.digest != wanted.digest or target is not None:
        spec = wanted.spec
        reason = explain(live.spec if live else None, spec)
        return _with(p, order, begin(p, Start(spec=spec, digest=wanted.digest, reason=reason, by=order.by)))
    return _check_image(p, order, live)


def _is_its_own(order: Order, failed: Release) -> bool:
    """Say whether the release was begun by the order's own upload, whose file was seen before the order itself."""
    begun = failed.started
    if begun is None or order.at is None or failed.digest != order.digest:
        return False
    return begun.boot == order.at.boot and begun.steady >= order.at.steady


def _misplaced(p: Picture, order: Order) -> Decision | None:
    """Wait a little for the upload to be seen, then say why it does not count."""
    if p.s.standing.invalid:
        return _turn_down(p, order, "conflict", p.s.standing.invalid)
    if order.at is not None and elapsed_s(order.at, p.s.now) < PATIENCE_S and order.at.boot == p.s.now.boot:
        return None
    return _turn_down(p, order, "conflict", "a newer change to the file came first")


def _check_image(p: Picture, order: Order, live: Release) -> Decision:
    """An unchanged spec: only another image under the same name makes a release."""
    key = f"{p.s.app}/check-{order.id}"
    found = p.s.world.resolutions.get(key)
    memory = replace(p.s.memory, checking=order.id)
    if found is None:
        operation = ResolveImage(key, live.spec.image, live.spec.pull, "has the image moved?")
        return Decision(memory=memory, operations=(operation,), look_again_s=1.0)
    if found.state == "running":
        return Decision(memory=memory, look_again_s=1.0)
    memory = replace(memory, checking=None)
    seen = Picture(replace(p.s, memory=memory))
    if found.state == "failed":
        return _say(seen, order, "failed", f"image {live.spec.image}: {found.error}")
    if found.image_id == live.image_id:
        return _say(seen, order, "unchanged", release=live.number)
    start = Start(
        spec=live.spec,
        digest=live.digest,
        reason="image moved",
        by=order.by,
        image_id=found.image_id,
        image_healthcheck=found.healthcheck,
    )
    return _with(seen, order, begin(seen, start))


def _rollback(p: Picture, order: Order) -> Decision:
    live, rollout = p.live, p.s.memory.rollout
    if live is None:
        return _turn_down(p, order, "conflict", "nothing to roll back: no release is live")
    if order.to is None and rollout is not None and rollout.switched is None:
        return _stay(p, order, live, rollout)
    goal = p.release(order.to) if order.to else find_earlier(p.s.releases, live)
    if goal is None or not goal.image_id:
        text = f"no release {order.to}" if order.to else "no earlier release was live; see: oton history " + p.s.app
        return _turn_down(p, order, "missing", text)
    if goal.number == live.number or is_same(goal, live):
        return _turn_down(p, order, "conflict", f"release {live.number}, which serves, is the same as {goal.number}")
    wanted = p.s.standing.wanted
    start = Start(
        spec=goal.spec,
        digest=goal.digest,
        reason=f"rollback to {goal.number}",
        kind="rollback",
        by=order.by,
        image_id=goal.image_id,
        image_healthcheck=goal.image_healthcheck,
        restarts=goal.restarts,
        data={"digest": wanted.digest} if wanted else {},
    )
    return _with(p, order, begin(p, start))


def _stay(p: Picture, order: Order, live: Release, rollout: Rollout) -> Decision:
    """While a rollout is under way, back means back to what serves: give the rollout up and pin what stays."""
    is_undo = rollout.kind == "undo"
    stays = rollout.release if is_undo else live.number
    text = f"back to release {stays}"
    wanted = p.s.standing.wanted
    memory = p.s.memory
    if wanted is not None and wanted.digest != (p.goal if is_undo else live).digest:
        memory = replace(memory, pin=Pin(release=stays, digest=wanted.digest))
    pinned = Picture(replace(p.s, memory=memory))
    if is_undo:
        return _say(pinned, order, "release", release=rollout.release)
    if rollout.failing:
        return _say(pinned, order, "release", text, release=rollout.release)
    given_up = fail(pinned, f"rolled back by {order.by or 'someone'}", outcome="rolled_back")
    return _with(pinned, order, given_up, text=text)


def _unpin(p: Picture, order: Order) -> Decision:
    if p.s.memory.pin is None:
        return _turn_down(p, order, "conflict", f"{p.s.app} is not pinned")
    freed = Picture(replace(p.s, memory=replace(p.s.memory, pin=None, failed=None)))
    wanted, live = p.s.standing.wanted, p.live
    if wanted is None or (live is not None and live.digest == wanted.digest):
        return _say(freed, order, "done", "unpinned; the file already matches what is live")
    start = Start(spec=wanted.spec, digest=wanted.digest, reason="unpinned: the file is followed again", by=order.by)
    return _with(freed, order, begin(freed, start))


def _promote(p: Picture, order: Order) -> Decision:
    rollout = p.s.memory.rollout
    target = p.target
    is_canary = target is not None and target.spec.strategy.type == "canary"
    may_move_on = rollout is not None and not rollout.failing and rollout.switched is None and not rollout.promoted
    if rollout is None or not may_move_on or not (is_canary or rollout.waits_for == "promotion"):
        return _turn_down(p, order, "conflict", "nothing to promote: no rollout is waiting for promotion")
    memory = replace(p.s.memory, rollout=replace(rollout, promoted=True, waits_for=""))
    return _with(p, order, Decision(memory=memory, notes=(Note(f"promoted by {order.by}"),)))


def _abort(p: Picture, order: Order) -> Decision | None:
    rollout = p.s.memory.rollout
    if rollout is None:
        return _turn_down(p, order, "conflict", "no rollout is in progress")
    if rollout.kind in ("rollback", "undo") and rollout.switched is not None:
        return _turn_down(p, order, "conflict", f"a {rollout.kind} is never rolled back")
    if rollout.failing:
        return _say(p, order, "release", release=rollout.release)
    return _with(p, order, fail(p, f"aborted by {order.by or 'someone'}", outcome="rolled_back"))


def _retry(p: Picture, order: Order) -> Decision | None:
    memory, wanted = p.s.memory, p.s.standing.wanted
    if memory.rollout is not None and memory.rollout.failing:
        return None
    if memory.rollout is not None or (memory.failed is None and not memory.held) or wanted is None:
        return _turn_down(p, order, "conflict", "nothing to retry: no release failed and nothing is held")
    start = Start(
        spec=wanted.spec,
        digest=wanted.digest,
        reason=f"retry of {memory.failed}" if memory.failed else "retry after it was held",
        by=order.by,
        data={"again": "1"},
    )
    return _with(p, order, begin(p, start))


def _restart(p: Picture, order: Order) -> Decision | None:
    if p.live is None and p.target is None:
        return _turn_down(p, order, "conflict", "nothing to restart: no release is live")
    found = plan_restart(p, order.by)
    if isinstance(found, Release):
        return _say(p, order, "release", release=found.number)
    return None if found is None else _with(p, order, begin(p, found))


def _suspend(p: Picture, order: Order) -> Decision:
    is_by_spec = p.is_suspended and not p.s.memory.suspended
    if order.verb == "resume" and is_by_spec:
        return _turn_down(p, order, "conflict", say_suspended(p))
    memory = replace(p.s.memory, suspended=order.verb == "suspend")
    decision = Decision(memory=memory, notes=(Note(f"{order.verb} by {order.by or 'someone'}"),))
    return _with(p, order, decision, "done")


def _maintenance(p: Picture, order: Order) -> Decision | None:
    """The order is done once the confirmed table says so."""
    message = order.message if order.on else None
    if p.s.memory.maintenance != message:
        return Decision(memory=replace(p.s.memory, maintenance=message))
    confirmed, routing = p.s.world.routing.confirmed, p.s.world.routing
    is_on = confirmed is not None and confirmed.mode == "maintenance" and confirmed.message == (message or "")
    if routing.settled and (confirmed is None or is_on == order.on):
        text = "maintenance is on: its routes answer 503" if order.on else "maintenance is off: its routes serve again"
        return _say(p, order, "done", text)
    return None


def _never_ran(p: Picture) -> bool:
    return p.live is None and p.target is None and not p.s.world.replicas and p.s.world.routing.published is None


def _delete(p: Picture, order: Order) -> Decision | None:
    """`remove_app` answers once nothing is left; here only what cannot come to that."""
    if p.s.memory.removed and not p.replicas:
        return _say(p, order, "done", "removed")
    if not p.s.standing.gone and p.s.standing.wanted is None and not p.s.standing.invalid and _never_ran(p):
        decision = _say(p, order, "done", "removed")  # only a file that could not be used was ever there
        return replace(decision, memory=replace(idle_memory(p.s.memory), change=decision.memory.change))
    if p.s.standing.gone and (waits := say_removal_waits(p)):
        return _turn_down(p, order, "waiting", waits)
    is_old = order.at is None or elapsed_s(order.at, p.s.now) > 2 * PATIENCE_S or order.at.boot != p.s.now.boot
    if not p.s.standing.gone and is_old and p.s.standing.wanted is not None:
        return _turn_down(p, order, "conflict", f"its spec still exists: {p.s.standing.file}")
    return None
