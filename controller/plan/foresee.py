"""
Plan, pretend, repeat: what the passes would do if everything went well.

The same pretending carries the preview of `oton diff` and the property tests, which add the failures.
"""

from __future__ import annotations

from dataclasses import replace

from controller.plan.decide import decide
from controller.plan.operations import (
    KillReplica,
    Operation,
    PublishRoutes,
    RemoveReplica,
    ResolveImage,
    RestartReplica,
    RunBefore,
    StartReplica,
    StopReplica,
)
from controller.plan.picture import Picture
from controller.plan.probing import candidate_of, trial_id
from controller.plan.settle import settle
from controller.plan.situation import Decision, Done, Situation, Standing, Wanted
from controller.plan.text import render_operation
from controller.spec.digest import digest_spec
from controller.spec.model import AppSpec
from controller.world.model import Replica, Resolution, Routing, Verdict, World

MOST_PASSES = 300


def preview(situation: Situation, spec: AppSpec) -> tuple[str, ...]:
    """Return the plan in words that would follow if the file asked for *spec*, to its rest."""
    wanted = Wanted(spec=spec, digest=digest_spec(spec), by="preview")
    standing = Standing(app=situation.app, wanted=wanted)
    situation = replace(situation, standing=standing, orders=())
    lines: list[str] = []
    for _ in range(MOST_PASSES):
        decision = decide(situation)
        lines += [render_operation(situation.app, o) for o in decision.operations]
        failed = next((r for r in decision.releases if r.outcome == "failed"), None)
        if failed is not None:
            return (*lines, f"fail    {failed.message.splitlines()[0]}")
        rollout = decision.memory.rollout
        if rollout and rollout.waits_for == "promotion":
            return (*lines, "wait    for `oton promote`")
        is_news = decision.operations or decision.memory != situation.memory
        if not is_news and decision.look_again_s is None:
            return tuple(lines)
        situation = pretend(situation, decision)
    return tuple(lines)


def pretend(situation: Situation, decision: Decision) -> Situation:
    """Return the situation after the decision was carried out without trouble and the outside reacted."""
    memory, world, done = decision.memory, situation.world, []
    situation = replace(
        situation,
        memory=memory,
        releases={**situation.releases, **{r.number: r for r in decision.releases}},
        orders=tuple(o for o in situation.orders if o.id not in {a.order for a in decision.answers}),
    )
    for operation in decision.operations:
        world = imagine(replace(situation, world=world), operation)
        done.append(Done(operation, "done"))
    memory = settle(situation, memory, tuple(done), situation.now)
    later_s = decision.look_again_s if not decision.operations and decision.look_again_s else 0.01
    after = replace(situation, memory=memory, world=react(world), now=situation.now.later(later_s))
    return replace(after, world=_pass_trials(after))


def _pass_trials(situation: Situation) -> World:
    """Return the world once what is kept has passed the readiness check of the release to come."""
    p = Picture(situation)
    names = [trial_id(r, c) for r in p.replicas if r.state == "running" and (c := candidate_of(p, r)) is not None]
    passed = dict.fromkeys(names, Verdict(ready=True, ever_ready=True, accepts=True, passes=1))
    return replace(situation.world, verdicts={**situation.world.verdicts, **passed})


def imagine(situation: Situation, operation: Operation) -> World:
    """Return the world right after one operation."""
    world = situation.world
    match operation:
        case StartReplica():
            return _with_replica(world, _born(situation, operation.release, operation.index, "replica"))
        case RunBefore():
            return _with_replica(world, _born(situation, operation.release, 0, "before"))
        case RestartReplica():
            return _change(world, operation.replica, state="running", started=situation.now.wall, exit_code=None)
        case StopReplica() | KillReplica():
            return _change(world, operation.replica, state="exited", exit_code=0)
        case RemoveReplica():
            left = tuple(r for r in world.replicas if r.id != operation.replica)
            return replace(world, replicas=left)
        case PublishRoutes():
            return replace(world, routing=replace(world.routing, published=operation.routes))
        case ResolveImage():
            found = Resolution(state="done", image_id=_image_id(situation, operation))
            return replace(world, resolutions={**world.resolutions, operation.key: found})
        case _:
            return world


def react(world: World) -> World:
    """Return the world once everything in it has answered: tables confirmed, drained, probes passed."""
    routing = world.routing
    ready = frozenset(u.id for u in routing.published.upstreams if u.state == "ready") if routing.published else set()
    drained = frozenset(r.id for r in world.replicas) - ready
    verdicts = {r.id: _pass(world, r) for r in world.replicas if r.state == "running" and r.kind == "replica"}
    replicas = tuple(replace(r, state="exited", exit_code=0) if r.kind == "before" else r for r in world.replicas)
    settled = Routing(published=routing.published, confirmed=routing.published, drained=drained)
    return replace(world, routing=settled, verdicts=verdicts, replicas=replicas)


def _pass(world: World, replica: Replica) -> Verdict:
    seen = world.verdicts.get(replica.id)
    return seen if seen and seen.ready else Verdict(ready=True, ever_ready=True, accepts=True, passes=1)


def _born(situation: Situation, number: int, index: int, kind: str) -> Replica:
    release = situation.releases[number]
    serial = len(situation.world.replicas) + 1
    name = f"{situation.app}-r{number}-{index}"
    return Replica(
        id=f"{name}@{situation.now.steady:.3f}",
        name=name,
        app=situation.app,
        release=number,
        index=index,
        digest=release.container_digest,
        image_id=release.image_id,
        kind="before" if kind == "before" else "replica",
        address=f"10.0.0.{serial % 250 + 1}" if release.spec.port else None,
        port=release.spec.port,
        created=situation.now.wall,
        started=situation.now.wall,
    )


def _with_replica(world: World, replica: Replica) -> World:
    replicas = sorted((*world.replicas, replica), key=lambda r: (r.release, r.index, r.name, r.id))
    return replace(world, replicas=tuple(replicas))


def _change(world: World, replica: str, **fields: object) -> World:
    changed = tuple(replace(r, **fields) if r.id == replica else r for r in world.replicas)  # type: ignore[arg-type]
    return replace(world, replicas=changed)


def _image_id(situation: Situation, operation: ResolveImage) -> str:
    """Believe that a name still leads where it led for any release that used it."""
    for _, release in sorted(situation.releases.items(), reverse=True):
        if operation.ref in (release.spec.image, release.image_id) and release.image_id:
            return release.image_id
    return f"sha256:{operation.ref}"
