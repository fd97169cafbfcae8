"""An app without an open rollout: serve, heal, tidy up; and an app that is being taken down."""

from __future__ import annotations

from dataclasses import replace

from controller.plan.begin import idle_memory
from controller.plan.course import Course, carry_out
from controller.plan.inherit import heirs_of
from controller.plan.operations import PublishRoutes
from controller.plan.picture import Muster, Picture
from controller.plan.situation import Answer, Decision, Note, Release
from controller.plan.slots import fill_slots
from controller.plan.strategies.recreate import has_running, is_held, plan_pause, plan_way_back
from controller.plan.strategies.step import coming_rules, retiring, soonest
from controller.world.model import Replica


def serve_on(p: Picture, target: Release | None = None) -> Decision:
    """Keep what serves serving: heal its slots, route the ready ones, let go of what belongs to nobody.

    While *target* is on its way its own replicas are left alone and its routes exist, without an answer.
    """
    live = p.live
    if live is None:
        return _serve_nothing(p, target)
    if target and is_held(p):
        return carry_out(p, plan_pause(p, target, live), p.s.memory)
    if not target and _comes_back(p, live):
        return carry_out(p, plan_way_back(p, live, live), p.s.memory)
    warm, warm_s = _warm(p)
    muster = p.muster(live)
    helpers = _helpers(p, live, target, muster, warm)
    budget = live.spec.replicas - len(muster.keep) - len(p.ready(helpers)) if target and helpers else None
    filling = fill_slots(p, live, muster, f"heals release {live.number}", budget=budget)
    strays = tuple(
        r for r in p.others(live, target) if r not in warm and r not in helpers and not (target and p.is_routed(r))
    )
    course = Course(
        rules_of=live.spec,
        serve=p.routable((*filling.serve, *helpers)),
        rest=tuple(r for r in warm if r not in helpers),
        retire=(
            *(one for one in filling.retire if one[0] not in helpers),
            *retiring(strays, f"release {live.number} replaced it"),
        ),
        fill=filling.operations,
        drain_s=live.spec.drain,
        coming=coming_rules(p, target) if target else (),
        look_again_s=soonest(filling.look_again_s, warm_s),
    )
    memory = p.s.memory
    if memory.warm and warm_s is None:
        memory = replace(memory, warm=None)
    return carry_out(p, course, memory)


def _helpers(
    p: Picture, live: Release, target: Release | None, muster: Muster, warm: tuple[Replica, ...]
) -> tuple[Replica, ...]:
    """Return who serves beside the live release's own.

    What a rollout that was overtaken had brought into service helps to carry the load until it goes. And while nothing
    of the live release is ready, whatever is ready serves: an older backup knows less than what runs.
    """
    overtaken = p.outgoing(live) if target else ()
    if p.ready(muster.keep) or not live.spec.replicas:
        return overtaken
    return (*overtaken, *p.ready(muster.surplus)) if target else p.ready((*p.outgoing(live), *warm, *muster.surplus))


def _comes_back(p: Picture, live: Release) -> bool:
    """Say whether a single writer is on its way back, behind a hold, after what the history does not know ran."""
    if live.spec.strategy.type != "recreate" or not live.spec.replicas or p.ready(p.of(live)):
        return False
    unknown = tuple(r for r in p.others(live) if p.maker(r) is None)
    running = [r for r in p.of(live) if r.state == "running"]
    is_hopeless = p.s.memory.exits or any(p.unready_for_s(r) > live.spec.deadline for r in running)
    return has_running(unknown) or (is_held(p) and not is_hopeless)


def _serve_nothing(p: Picture, target: Release | None) -> Decision:
    wanted = p.s.standing.wanted
    spec = target.spec if target else (wanted.spec if wanted else None)
    strays = tuple(r for r in p.replicas if target is None or r not in p.of(target))
    return carry_out(p, Course(rules_of=spec, retire=retiring(strays, "its release failed")), p.s.memory)


def _warm(p: Picture) -> tuple[tuple[Replica, ...], float | None]:
    """Return the replicas that stay warm, and for how many seconds yet."""
    warm, live = p.s.memory.warm, p.live
    if warm is None or live is None:
        return (), None
    left_s = warm.until.steady - p.s.now.steady
    release = p.release(warm.release)
    if left_s <= 0 or warm.until.boot != p.s.now.boot or release is None:
        return (), None
    running = tuple(r for r in p.of(release) if r.state == "running" and r not in p.of(live))
    return running, left_s


def remove_app(p: Picture) -> Decision:
    """Take the app down, once nobody takes its routes over any more: they go, requests drain, containers are removed.

    The counter stays.
    """
    if (staying := _stay_for_heirs(p)) is not None:
        return staying
    live = p.live or p.target
    course = Course(
        rules_of=None,
        retire=retiring(p.replicas, "the app was removed"),
        drain_s=live.spec.drain if live else 30.0,
        because="the app was removed",
    )
    decision = carry_out(p, course, p.s.memory)
    routing = p.s.world.routing
    if p.s.world.replicas or decision.operations or routing.published is not None or not routing.settled:
        return decision
    answers = tuple(Answer(order=o.id, result="done", text="removed") for o in p.s.orders if o.verb == "delete")
    if p.s.memory == (gone := idle_memory(p.s.memory)):
        return Decision(memory=gone, answers=answers)
    target = p.target
    ended = (replace(target, outcome="superseded", message="the app was removed", finished=p.s.now),) if target else ()
    return Decision(memory=gone, releases=ended, answers=answers, notes=(Note("the app was removed"),))


def _stay_for_heirs(p: Picture) -> Decision | None:
    """Serve on with what another app is about to take over; None where there is no such app, or nobody to serve."""
    live = p.live
    if live is None or not p.routable(p.of(live)) or not heirs_of(p):
        return None
    muster = p.muster(live)
    # What a rollout has stopped must not start beside what it has started: two writers on one volume.
    budget = None if p.s.memory.rollout is None else 0
    filling = fill_slots(p, live, muster, f"heals release {live.number}", budget=budget)
    course = Course(
        rules_of=live.spec,
        serve=p.routable(filling.serve),
        retire=(*filling.retire, *retiring(p.others(live), "the app was removed")),
        fill=filling.operations,
        drain_s=live.spec.drain,
        for_heirs=True,
        because=f"until {', '.join(heir.app for heir in heirs_of(p))} takes over",
        look_again_s=filling.look_again_s,
    )
    return carry_out(p, course, p.s.memory)


def keep_still(p: Picture) -> Decision:
    """Start and stop nothing; only take dead and unready replicas out of the table, or ready ones back in."""
    published = p.s.world.routing.published
    release = p.live or p.target
    if published is None or release is None:
        return Decision(memory=p.s.memory)
    routed = {u.id for u in published.upstreams if u.state == "ready" and u.group == "live"}
    leaving = {u.id for u in published.upstreams if u.state == "draining"}
    rollout = p.s.memory.rollout
    out = leaving | (rollout.released if rollout else frozenset())
    pool = tuple(r for r in p.replicas if r.id in routed or (r in p.of(p.live) and r.id not in out))
    course = Course(
        rules_of=release.spec,
        serve=p.routable(pool) if published.mode != "hold" else (),
        rest=tuple(r for r in p.replicas if r.id in leaving),
        mode="hold" if published.mode == "hold" else "serve",
        hold_s=published.hold_s,
        because="suspended: only dead and unready replicas are taken out",
    )
    decision = carry_out(p, course, p.s.memory)
    only = tuple(o for o in decision.operations if isinstance(o, PublishRoutes))
    return replace(decision, operations=only)
