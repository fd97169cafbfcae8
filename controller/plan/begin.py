"""How a release begins and how a rollout ends: numbers, outcomes, and what memory keeps of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from controller.clock import Instant
from controller.plan.picture import Picture
from controller.plan.situation import Decision, Kind, Memory, Note, Outcome, Pin, Release, Rollout, Warm
from controller.spec.digest import digest_container
from controller.spec.model import AppSpec, BlueGreen

SHOWN_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a new release is to be."""

    spec: AppSpec
    digest: str
    reason: str
    kind: Kind = "apply"
    by: str = ""
    image_id: str = ""
    image_healthcheck: bool = False
    restarts: int = 0
    is_restart: bool = False
    """Its own number becomes part of its containers' digest, so that every one is replaced."""
    secret_versions: tuple[tuple[str, int], ...] | None = None
    """None: today's."""
    data: Mapping[str, str] = field(default_factory=dict)


def begin(p: Picture, start: Start) -> Decision:
    """Open a rollout to a new release; one under way is superseded."""
    memory, now = replace(p.s.memory, live=_base(p.s.memory)), p.s.now
    number = memory.last_release + 1
    release = Release(
        number=number,
        spec=start.spec,
        digest=start.digest,
        image_healthcheck=start.image_healthcheck,
        secret_versions=p.versions_of(start.spec) if start.secret_versions is None else start.secret_versions,
        restarts=number if start.is_restart else start.restarts,
        kind=start.kind,
        by=start.by,
        reason=start.reason,
        started=now,
    )
    if start.image_id:
        release = with_image(release, start.image_id, start.image_healthcheck)
    rollout = Rollout(release=number, previous=memory.live, kind=start.kind, started=now, since=now, data=start.data)
    return Decision(
        memory=replace(
            memory,
            last_release=number,
            rollout=rollout,
            warm=None,
            # Only what the file asks for anew is a new reason; a restart or a rollback is none.
            failed=None if start.kind == "apply" else _given_up(memory),
            held="" if start.kind == "apply" else memory.held,
            slots={},
            removed=False,
        ),
        releases=(*_overtaken(p, start), release),
        notes=(Note(f"release {number} begins: {start.reason}"),),
    )


def _base(memory: Memory) -> int | None:
    """Return the release to come back to: what serves, but never one that is just being undone."""
    rollout = memory.rollout
    return rollout.release if rollout is not None and rollout.kind == "undo" else memory.live


def _given_up(memory: Memory) -> int | None:
    """Return what the file asks for and is not tried again by itself: what failed, or what a person goes back from."""
    rollout = memory.rollout
    is_left = rollout is not None and rollout.kind == "apply" and rollout.switched is None
    return rollout.release if rollout is not None and is_left else memory.failed


def _overtaken(p: Picture, start: Start) -> tuple[Release, ...]:
    """Return how the release ends that was under way: one that serves already is live, whatever it still waited for."""
    rollout, target = p.s.memory.rollout, p.target
    if rollout is None or target is None:
        return ()
    if target.number == _base(p.s.memory):
        return (replace(target, outcome="live", was_live=True, message=rollout.failing, finished=p.s.now),)
    if rollout.failing:
        return (replace(target, outcome=rollout.outcome, message=rollout.failing, finished=p.s.now),)
    why = "a newer release took over" if start.kind == "apply" else start.reason
    return (replace(target, outcome="superseded", message=why, finished=p.s.now),)


def with_image(release: Release, image_id: str, healthcheck: bool) -> Release:
    """Return *release* made from this image; from now on its container part is fixed."""
    digest = digest_container(release.spec, image_id, release.secret_versions, release.restarts)
    return replace(release, image_id=image_id, image_healthcheck=healthcheck, container_digest=digest)


def fail(p: Picture, reason: str, lines: tuple[str, ...] = (), outcome: Outcome = "failed") -> Decision:
    """Turn the rollout back, for *reason*; the last log lines go into the release's message."""
    rollout, target = p.rollout, p.goal
    message = "\n".join((reason, *(f"  | {line}" for line in lines[-SHOWN_LINES:])))
    return Decision(
        memory=replace(
            p.s.memory,
            rollout=turn_back(rollout, p.s.memory, message, p.s.now, outcome),
        ),
        releases=(replace(target, message=message),),
        notes=(Note(f"release {target.number} is undone: {reason}", "error"),),
    )


def turn_back(rollout: Rollout, memory: Memory, reason: str, now: Instant, outcome: Outcome = "failed") -> Rollout:
    """Return *rollout* on its way back, for *reason*."""
    return replace(
        rollout,
        failing=reason,
        outcome=outcome,
        since=now,
        released=frozenset(),
        waits_for="",
        exits=memory.exits,
    )


def end_failed(p: Picture) -> Decision:
    """Close the rollout as failed: what served before serves, nothing of the new one is left."""
    rollout, target = p.rollout, p.goal
    wanted, pin = p.s.standing.wanted, p.s.memory.pin
    is_pinned = pin is not None and wanted is not None and pin.digest == wanted.digest
    is_asked = rollout.kind == "apply" and not is_pinned
    memory = replace(p.s.memory, rollout=None, slots={}, failed=target.number if is_asked else p.s.memory.failed)
    ended = replace(target, outcome=rollout.outcome, message=rollout.failing, finished=p.s.now)
    serving = f"release {memory.live} serves" if memory.live else "nothing serves"
    return Decision(
        memory=memory,
        releases=(ended,),
        notes=(Note(f"release {target.number} {_word(rollout.outcome)}; {serving}", "warning"),),
    )


def _word(outcome: Outcome) -> str:
    return "was rolled back" if outcome == "rolled_back" else outcome


def switched(p: Picture) -> Decision:
    """The confirmed table serves the new release: it is what serves from now on."""
    rollout, target, memory = p.rollout, p.goal, p.s.memory
    verdicts = p.s.world.verdicts
    counts = {r.id: verdicts[r.id].unready_count for r in p.of(target) if r.id in verdicts}
    rollout = replace(
        rollout,
        switched=p.s.now,
        phase="draining",
        since=p.s.now,
        counts=counts,
        exits=memory.exits,
        waits_for="",
    )
    old = p.live
    outcome: Outcome = "rolled_back" if rollout.kind in ("rollback", "undo") else "superseded"
    releases = (replace(old, outcome=outcome),) if old and old.outcome == "live" else ()
    return Decision(
        memory=replace(memory, live=target.number, rollout=rollout, pin=_pin_after(p), removed=False),
        releases=releases,
        notes=(Note(f"release {target.number} takes the traffic"),),
    )


def _pin_after(p: Picture) -> Pin | None:
    """A rollback pins once it serves; an undo and a restart leave the pin as it is, the file lifts it."""
    rollout, wanted = p.rollout, p.s.standing.wanted
    if rollout.kind == "rollback":
        return Pin(release=rollout.release, digest=rollout.data.get("digest") or (wanted.digest if wanted else ""))
    return None if rollout.kind == "apply" else p.s.memory.pin


def end_live(p: Picture) -> Decision:
    """Close the rollout: drain and bake are over, the release is live."""
    rollout, target, memory = p.rollout, p.goal, p.s.memory
    warm = None
    warm_s = keep_old_s(target, rollout)
    if rollout.previous is not None and warm_s > 0:
        warm = Warm(release=rollout.previous, until=(rollout.switched or p.s.now).later(warm_s))
    ended = replace(target, outcome="live", was_live=True, finished=p.s.now)
    return Decision(
        memory=replace(memory, rollout=None, warm=warm),
        releases=(ended,),
        notes=(Note(f"release {target.number} is live"),),
    )


def keep_old_s(release: Release, rollout: Rollout) -> float:
    """Return how long after the switch what served before stays warm; what an undo replaces has failed and does not."""
    if rollout.previous is None or rollout.kind == "undo":
        return 0.0
    strategy = release.spec.strategy
    return strategy.keep_old if isinstance(strategy, BlueGreen) else 0.0


def idle_memory(memory: Memory) -> Memory:
    """Return what stays of an app whose removal is over: its counter."""
    return Memory(last_release=memory.last_release, change=memory.change, removed=True)
