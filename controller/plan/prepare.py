"""What has to be there before the first new replica: the image, and the `before` command's success."""

from __future__ import annotations

from dataclasses import replace

from controller.plan.begin import fail, with_image
from controller.plan.operations import KeepLogs, KillReplica, RemoveReplica, ResolveImage, RunBefore
from controller.plan.picture import Picture
from controller.plan.reasons import say_missing
from controller.plan.situation import Decision, Note, Release, Rollout
from controller.world.model import Replica, Resolution


def prepare(p: Picture, release: Release, rollout: Rollout) -> Decision | None:
    """Return the next step of the preparation; None once it is over."""
    if rollout.kind != "undo" and (missing := [name for name, version in p.versions_of(release.spec) if not version]):
        return fail(p, say_missing(p.s.app, missing))
    if not release.image_id:
        return _resolve(p, release)
    if rollout.kind == "rollback" and "image" not in rollout.data:
        return _find_image(p, release, rollout)
    if release.spec.strategy.type == "recreate":
        return None  # its `before` runs after the old one has stopped
    return run_before(p, release, rollout)


def _resolve(p: Picture, release: Release) -> Decision:
    key = f"{p.s.app}/{release.number}"
    found = p.s.world.resolutions.get(key)
    spec = release.spec
    if found is None:
        return _ask(p, ResolveImage(key, spec.image, spec.pull, release.reason))
    if found.state == "running":
        return _wait(p, f"pulling {spec.image}{_progress(found)}")
    if found.state == "failed":
        return fail(p, f"image {spec.image}: {found.error}")
    return Decision(
        memory=p.s.memory,
        releases=(with_image(release, found.image_id, found.healthcheck),),
        notes=(Note(f"{spec.image} is {found.image_id[:19]}"),),
    )


def _find_image(p: Picture, release: Release, rollout: Rollout) -> Decision:
    """Make sure that a rollback's image is there; pull it again if it is gone."""
    here, again = f"{p.s.app}/{release.number}/here", f"{p.s.app}/{release.number}/again"
    found = p.s.world.resolutions.get(here)
    if found is None:
        return _ask(p, ResolveImage(here, release.image_id, "never", release.reason))
    if found.state == "running":
        return _wait(p, "looking for the image")
    if found.state == "failed":
        pulled = p.s.world.resolutions.get(again)
        if pulled is None:
            return _ask(p, ResolveImage(again, release.spec.image, "always", "its image was removed"))
        if pulled.state == "running":
            return _wait(p, f"pulling {release.spec.image} again{_progress(pulled)}")
        if pulled.state == "failed":
            return fail(p, f"its image {release.image_id[:19]} is gone and cannot be pulled again: {pulled.error}")
        if pulled.image_id != release.image_id:
            moved = f"{release.spec.image} is now {pulled.image_id[:19]}, release needs {release.image_id[:19]}"
            return fail(p, f"its image is gone from this engine and its name has moved: {moved}")
    data = {**rollout.data, "image": "found"}
    return Decision(memory=replace(p.s.memory, rollout=replace(rollout, data=data)))


def run_before(p: Picture, release: Release, rollout: Rollout) -> Decision | None:
    """Return the next step of the `before` command; None once it succeeded or is not needed."""
    before = release.spec.before
    if before is None or not is_before_due(p, release, rollout):
        return None
    found = next((r for r in p.s.world.replicas if r.kind == "before" and r.release == release.number), None)
    if found is None and rollout.data.get("before") == "started":
        return fail(p, "the container of the `before` command disappeared while it was running")
    if found is None or found.state == "created":
        return _ask(p, RunBefore(release.number, "before the first new replica"))
    if found.state in ("running", "paused"):
        return _watch_before(p, found, rollout, before.timeout)
    if found.exit_code == 0:
        done = replace(rollout, before_done=True)
        return Decision(
            memory=replace(p.s.memory, rollout=done),
            operations=(RemoveReplica(found.id, found.name, "it has finished"),),
            notes=(Note("`before` succeeded"),),
        )
    if found.id not in p.s.memory.tails:
        return _keep(p, found, "the `before` command failed")
    code = "was killed: out of memory" if found.oom_killed else f"ended with code {found.exit_code}"
    return fail(p, f"the `before` command {code}", p.s.memory.tails[found.id])


def is_before_due(p: Picture, release: Release, rollout: Rollout) -> bool:
    """Say whether the `before` command has to succeed yet."""
    return release.spec.before is not None and not rollout.before_done and _needs_before(p, release, rollout)


def _watch_before(p: Picture, found: Replica, rollout: Rollout, timeout_s: float) -> Decision:
    deadline = rollout.deadlines.get(0)
    if deadline is None:
        deadlines = {**rollout.deadlines, 0: p.s.now.later(timeout_s)}
        return Decision(memory=replace(p.s.memory, rollout=replace(rollout, deadlines=deadlines)))
    left_s = deadline.steady - p.s.now.steady
    if left_s > 0:
        return replace(_wait(p, "running the `before` command"), look_again_s=left_s)
    if found.id not in p.s.memory.tails:
        return _keep(p, found, "the `before` command took too long")
    return fail(p, f"the `before` command ran longer than {timeout_s:g} s", p.s.memory.tails[found.id])


def _needs_before(p: Picture, release: Release, rollout: Rollout) -> bool:
    if rollout.kind != "apply":
        return False
    old = p.release(rollout.previous)
    if old is None or rollout.data.get("again"):
        return True
    was, now = old.spec, release.spec
    return (old.image_id, was.command, was.before) != (release.image_id, now.command, now.before)


def clean_one_offs(p: Picture) -> Decision | None:
    """Return what takes away one-offs that nobody waits for any more; None where there are none."""
    rollout = p.s.memory.rollout
    for one in p.s.world.replicas:
        if one.kind != "before" or one.state == "removing":
            continue
        is_awaited = rollout and one.release == rollout.release and not rollout.before_done and not rollout.failing
        if is_awaited and not p.s.standing.gone:
            continue
        if one.state in ("running", "paused"):
            operation = KillReplica(one.id, one.name, "no longer needed")
            return Decision(memory=p.s.memory, operations=(operation,), look_again_s=0.2)
        return Decision(memory=p.s.memory, operations=(RemoveReplica(one.id, one.name, "it is over"),))
    return None


def _ask(p: Picture, operation: ResolveImage | RunBefore) -> Decision:
    return Decision(memory=p.s.memory, operations=(operation,), look_again_s=1.0)


def _keep(p: Picture, replica: Replica, why: str) -> Decision:
    return Decision(memory=p.s.memory, operations=(KeepLogs(replica.id, replica.name, why),))


def _wait(p: Picture, what: str) -> Decision:
    return Decision(memory=replace(p.s.memory, rollout=replace(p.rollout, waits_for=what)), look_again_s=1.0)


def _progress(found: Resolution) -> str:
    return f" ({found.progress})" if found.progress else ""
