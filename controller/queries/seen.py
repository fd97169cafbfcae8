"""What the last pass over an app saw and decided, and what follows from it: one word for sync, one for health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.plan.claims import claims_of
from controller.plan.inherit import heirs_of
from controller.plan.picture import Picture
from controller.plan.situation import Memory, Release, Rollout, Situation
from controller.routing.table import AppRoutes
from controller.world.model import Replica, Verdict

Row = dict[str, Any]
PROMOTION = "promotion"
"""What `Rollout.waits_for` says while a person has to promote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the last pass saw and decided for one app."""

    situation: Situation
    memory: Memory
    releases: Mapping[int, Release]

    @property
    def live(self) -> Release | None:
        """The release that serves, if any ever did."""
        return self.releases.get(self.memory.live) if self.memory.live is not None else None

    @property
    def rollout(self) -> Rollout | None:
        """The rollout under way."""
        return self.memory.rollout

    @property
    def target(self) -> Release | None:
        """The release that a rollout goes to."""
        return self.releases.get(self.rollout.release) if self.rollout is not None else None

    @property
    def routes(self) -> AppRoutes | None:
        """What the proxy has of the app."""
        routing = self.situation.world.routing
        return routing.confirmed or routing.published


def is_removed(seen: Seen) -> bool:
    """Say whether nothing is left of the app but its history."""
    world = seen.situation.world
    return seen.memory.removed and not world.replicas and seen.routes is None and seen.rollout is None


def list_conditions(seen: Seen) -> list[str]:
    """Return everything that holds of `suspended held progressing invalid failed pinned synced`, in that order."""
    memory, standing = seen.memory, seen.situation.standing
    wanted = standing.wanted
    holds = {
        "suspended": memory.suspended or bool(wanted and wanted.spec.suspend),
        "held": bool(memory.held or standing.held),
        "progressing": is_progressing(seen),
        "invalid": bool(standing.invalid),
        "failed": memory.failed is not None,
        "pinned": memory.pin is not None,
    }
    return [name for name, holding in holds.items() if holding] or ["synced"]


def is_progressing(seen: Seen) -> bool:
    """Say whether a rollout or a removal is under way, or due with nothing in its way."""
    memory, standing = seen.memory, seen.situation.standing
    if seen.rollout is not None or standing.gone or memory.removed:
        return True
    waits = memory.suspended or memory.held or memory.failed is not None or memory.pin is not None
    if standing.wanted is None or waits or standing.held or standing.wanted.spec.suspend:
        return False
    return seen.live is None or seen.live.digest != standing.wanted.digest


def count_replicas(seen: Seen) -> Row:
    """Count what the serving release wants (or, before the first, the target), has ready, and is routed to."""
    base = seen.live or seen.target
    wanted = seen.situation.standing.wanted
    fallback = wanted.spec.replicas if wanted is not None and base is None else 0
    return {
        "wanted": base.spec.replicas if base is not None else fallback,
        "ready": sum(1 for replica in serving_replicas(seen) if verdict_of(seen, replica).ready),
        "routed": len(routed_ids(seen)),
    }


def serving_replicas(seen: Seen) -> list[Replica]:
    """Return the running replicas that serve: of the live release, or routed to by the table."""
    live = seen.live.container_digest if seen.live is not None else None
    routed = routed_ids(seen)
    return [
        replica
        for replica in seen.situation.world.replicas
        if replica.kind == "replica" and replica.state == "running" and (replica.digest == live or replica.id in routed)
        if replica.id not in seen.memory.stopping
    ]


def routed_ids(seen: Seen) -> frozenset[str]:
    """Return the ids of the upstreams that the public gets requests from now."""
    upstreams = seen.routes.upstreams if seen.routes is not None else ()
    return frozenset(one.id for one in upstreams if one.state == "ready" and one.group == "live")


def verdict_of(seen: Seen, replica: Replica) -> Verdict:
    """Return the replica's verdict; an empty one where the prober has none yet."""
    return seen.situation.world.verdicts.get(replica.id) or Verdict()


def judge_health(seen: Seen) -> str:
    """Return healthy (ready ≥ wanted), degraded, down, or unknown (engine not reachable)."""
    if not seen.situation.world.engine_up:
        return "unknown"
    if _was_never_usable(seen):
        return "down"
    counts = count_replicas(seen)
    if counts["ready"] >= counts["wanted"]:
        return "healthy"
    return "degraded" if counts["ready"] or counts["routed"] else "down"


def _was_never_usable(seen: Seen) -> bool:
    """Say whether the app's file was never usable: nobody can say how many replicas it asks for."""
    standing = seen.situation.standing
    return bool(standing.invalid) and standing.wanted is None and seen.live is None and seen.target is None


def explain_state(seen: Seen) -> str:
    """Say in one line what a person should know about the app now, and what to do; "" where all is well."""
    app, memory, standing = seen.situation.app, seen.memory, seen.situation.standing
    if not seen.situation.world.engine_up:
        return "engine not reachable: nothing is changed until it answers"
    if memory.suspended or (standing.wanted and standing.wanted.spec.suspend):
        by_file = "" if memory.suspended else " by its spec (suspend: true)"
        return f"suspended{by_file}" if by_file else f"suspended; to resume: oton resume {app}"
    if memory.held:
        return f"{memory.held}; to continue: oton retry {app}"
    if standing.held:
        return f"{standing.held}; put its file back, or remove it with: oton delete {app}"
    if seen.rollout is not None:
        return "; ".join(part for part in (explain_scaling(seen), explain_rollout(app, seen.rollout)) if part)
    if standing.gone:
        heirs = ", ".join(heir.app for heir in heirs_of(Picture(seen.situation)))
        return f"removed once {heirs} is ready, which takes its routes over" if heirs else "being removed"
    return standing.invalid or explain_rest(seen)


def explain_scaling(seen: Seen) -> str:
    """Say that the release to come wants another number of replicas than the one that `status` counts for."""
    live, target, rollout = seen.live, seen.target, seen.rollout
    if live is None or target is None or rollout is None or rollout.failing or rollout.switched is not None:
        return ""
    was, comes = live.spec.replicas, target.spec.replicas
    return f"replicas {was} -> {comes}" if was != comes else ""


def explain_rollout(app: str, rollout: Rollout) -> str:
    """Say what a rollout does or waits for."""
    if rollout.failing:
        return f"being undone: {first_line(rollout.failing)}"
    if rollout.waits_for == PROMOTION:
        return f"ready, waiting for promotion; to promote: oton promote {app}"
    # "1 of 2 replicas ready" and "pulling shop:2 …" say it by themselves.
    says_it_itself = rollout.waits_for[:1].isdigit() or rollout.waits_for.split(" ")[0].endswith("ing")
    if not rollout.waits_for:
        return ""
    return rollout.waits_for if says_it_itself else f"waiting for {rollout.waits_for}"


def missing_routes(seen: Seen) -> list[str]:
    """Return the hosts and paths that the release which serves claims and another app still has."""
    live = seen.live
    return sorted(str(claim) for claim in claims_of(live.spec) & seen.situation.foreign) if live is not None else []


def waits_for_person(seen: Seen) -> bool:
    """Say whether the rollout goes on only once a person promotes it."""
    rollout, target = seen.rollout, seen.target
    if rollout is None or target is None or rollout.waits_for != PROMOTION or rollout.promoted:
        return False
    return getattr(target.spec.strategy, "promote_after", 0.0) == 0


def explain_rest(seen: Seen) -> str:
    """Say why an app at rest is not simply fine: failed, pinned, or with a replica that keeps dying."""
    app, memory = seen.situation.app, seen.memory
    failed = seen.releases.get(memory.failed) if memory.failed is not None else None
    if memory.failed is not None:
        why = first_line(failed.message) if failed is not None else ""
        word = "was abandoned" if failed is not None and failed.outcome == "superseded" else "failed"
        return f"release {memory.failed} {word}: {why}" if why else f"release {memory.failed} {word}"
    if memory.pin is not None:
        return f"pinned to release {memory.pin.release} by a rollback; to unpin it: oton unpin {app}"
    troubled = [f"replica {index}: {slot.reason}" for index, slot in sorted(memory.slots.items()) if slot.reason]
    return troubled[0] if troubled and judge_health(seen) != "healthy" else ""


def first_line(text: str) -> str:
    """Return the first line of a text."""
    return text.strip().split("\n", 1)[0]
