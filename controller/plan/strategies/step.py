"""What a strategy answers with, and the pieces that all of them use."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.plan.course import Course
from controller.plan.picture import Muster, Picture
from controller.plan.probing import candidate_of, proof_of, proven, was_proven
from controller.plan.situation import Phase, Release, Rollout
from controller.routing.build import build_rules
from controller.routing.table import Rule
from controller.world.model import Replica


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where the app should be now, the rollout as it stands, and whether this is the switch itself."""

    course: Course
    rollout: Rollout
    is_final: bool = False
    """With this course published and confirmed the release serves alone."""


def stand(
    p: Picture,
    rollout: Rollout,
    release: Release,
    muster: Muster,
    *,
    phase: Phase | None = None,
    step: int = 0,
    waits_for: str = "",
) -> Rollout:
    """Return the rollout with phase, step and what it waits for as the slots stand, and new deadlines.

    *phase* and *waits_for* take the place of what the slots alone would say.
    """
    ready = len(proven(p, muster.keep))
    wanted = release.spec.replicas
    is_tried = any(candidate_of(p, r) is not None for r in muster.keep)
    what = "replicas passed the new readiness check" if is_tried else "replicas ready"
    waits = waits_for or (f"{ready} of {wanted} {what}" if ready < wanted else "")
    deadlines = dict(rollout.deadlines)
    for replica in muster.keep:
        if was_proven(p, replica):
            deadlines.pop(replica.index, None)
        elif replica.index not in deadlines:
            deadlines[replica.index] = p.s.now.later(release.spec.deadline)
    return replace(
        enter(p, rollout, phase or ("starting" if muster.missing else "waiting")),
        waits_for=waits,
        deadlines=deadlines,
        step=step,
        steps=wanted if step else 0,
    )


def enter(p: Picture, rollout: Rollout, phase: Phase) -> Rollout:
    """Return the rollout in *phase*; entering it anew notes the moment."""
    return rollout if rollout.phase == phase else replace(rollout, phase=phase, since=p.s.now)


def retiring(replicas: tuple[Replica, ...], why: str) -> tuple[tuple[Replica, str], ...]:
    """Return *replicas* as a course's `retire`."""
    return tuple((r, why) for r in replicas)


def coming_rules(p: Picture, release: Release, *, previewed: bool = False) -> tuple[Rule, ...]:
    """
    Return the rules of a release that does not serve yet; they answer 503 where nothing else has an answer.

    *previewed*: its preview host leads to it already.
    """
    if p.live is None:
        return ()
    rules = build_rules(release.spec)
    shown = tuple(rule for rule in rules if previewed and rule.group == "preview")
    return (*shown, *(replace(rule, group="preview", announced=True) for rule in rules if rule not in shown))


def rules_now(p: Picture, release: Release) -> Release:
    """Return whose rules are in force before the switch: what serves, else the newcomer's own."""
    return p.live or release


def assets_s(p: Picture, release: Release) -> float:
    """Return for how many seconds the old release is asked for assets that the new one does not have."""
    rollout = p.s.memory.rollout
    is_one_sided = release.spec.strategy.type == "recreate" or rollout is None
    if is_one_sided or not release.spec.proxy.assets or (rollout and (rollout.failing or rollout.kind == "undo")):
        return 0.0
    return max((p.live or release).spec.drain, getattr(release.spec.strategy, "keep_old", 0.0))


def soonest(*waits: float | None) -> float | None:
    """Return the shortest of the waits that there are."""
    known = [w for w in waits if w is not None]
    return min(known) if known else None


def serving_or_own(p: Picture, serving: tuple[Replica, ...], own: tuple[Replica, ...]) -> tuple[Replica, ...]:
    """Return who takes requests of *serving*; where nobody can, those of the newcomer's *own* that do already."""
    return p.routable(serving) or tuple(r for r in p.ready(own) if p.is_routed(r))


def ask_s(p: Picture, muster: Muster) -> float | None:
    """Return when to look again because a new readiness check is known only now: the next look has it asked."""
    return 0.0 if any(candidate_of(p, r) is not None and proof_of(p, r) is None for r in muster.keep) else None


def deadline_s(p: Picture, rollout: Rollout) -> float | None:
    """Return the seconds to the next deadline of a replica; one that passed in an empty slot is nothing to wait for."""
    left = [d.steady - p.s.now.steady for i, d in rollout.deadlines.items() if i]
    return min((seconds for seconds in left if seconds > 0), default=None)
