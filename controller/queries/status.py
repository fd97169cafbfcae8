"""How status, history and replicas are shown: the contract's section 8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller.clock import Instant, elapsed_s, render_time
from controller.plan.situation import Release, Standing
from controller.queries.routes import join_address, render_routes
from controller.queries.seen import (
    Row,
    Seen,
    count_replicas,
    explain_state,
    judge_health,
    list_conditions,
    missing_routes,
    verdict_of,
    waits_for_person,
)
from controller.world.model import Replica


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """One order and what became of it."""

    change: int
    verb: str
    result: str
    release: int | None = None
    text: str = ""

    def render(self) -> Row:
        """Render it as the API shows it."""
        return {
            "change": self.change,
            "verb": self.verb,
            "result": self.result,
            "release": self.release,
            "text": self.text,
        }


def render_row(seen: Seen) -> Row:
    """Render the app's row of `status`."""
    live, rollout, conditions = seen.live, seen.rollout, list_conditions(seen)
    return {
        "app": seen.situation.app,
        "sync": conditions[0],
        "conditions": conditions,
        "health": judge_health(seen),
        "release": live.number if live is not None else None,
        "image": live.spec.image if live is not None else None,
        "target": rollout.release if rollout is not None else None,
        "replicas": count_replicas(seen),
        "strategy": live.spec.strategy.type if live is not None else None,
        "phase": rollout.phase if rollout is not None else ("live" if live is not None else None),
        "step": f"{rollout.step}/{rollout.steps}" if rollout is not None and rollout.steps else None,
        "maintenance": seen.memory.maintenance is not None,
        "file": seen.situation.standing.file or None,
        "message": explain_state(seen),
        "since": render_moment(live.finished or live.started) if live is not None else None,
        "change": seen.memory.change,
    }


def render_app(seen: Seen, orders: tuple[OrderLine, ...]) -> Row:
    """Render the full view of one app."""
    memory, rollout = seen.memory, seen.rollout
    return render_row(seen) | {
        "engine": "up" if seen.situation.world.engine_up else "down",
        "orders": [line.render() for line in orders],
        "open_orders": [order.id for order in seen.situation.orders if order.id not in {one.change for one in orders}],
        "last_rollout": render_last(seen),
        "pin": None if memory.pin is None else {"release": memory.pin.release, "digest": memory.pin.digest},
        "waits_for": rollout.waits_for if rollout is not None else "",
        "waits_for_person": waits_for_person(seen),
        "failing": rollout.failing if rollout is not None else "",
        "maintenance_message": memory.maintenance,
        "replicas_list": [render_replica(seen, one) for one in seen.situation.world.replicas if one.kind == "replica"],
        "routes": render_routes(seen.routes),
        "missing_routes": missing_routes(seen),
    }


def render_last(seen: Seen) -> Row | None:
    """Render the newest release whose rollout is over."""
    over = [release for release in seen.releases.values() if release.outcome != "rolling_out"]
    if not over:
        return None
    last = max(over, key=lambda release: release.number)
    return {"release": last.number, "outcome": last.outcome, "message": last.message}


def render_replica(seen: Seen, replica: Replica) -> Row:
    """Render one replica with what the prober and the table say of it."""
    verdict = verdict_of(seen, replica)
    slot = seen.memory.slots.get(replica.index)
    upstreams = seen.routes.upstreams if seen.routes is not None else ()
    routed = next((one.state for one in upstreams if one.id == replica.id), None)
    return {
        "name": replica.name,
        "id": replica.id,
        "release": replica.release,
        "replica": replica.index,
        "state": "stopping" if replica.id in seen.memory.stopping else replica.state,
        "ready": verdict.ready,
        "routed": routed == "ready",
        "draining": routed == "draining",
        "address": join_address(replica.address, replica.port),
        "started": render_time(replica.started) if replica.started else None,
        "exits": slot.exits if slot is not None else 0,
        "exit_code": replica.exit_code,
        "probe": verdict.answer,
        "message": replica.drift or replica.error or (slot.reason if slot is not None else ""),
        "last_lines": list(seen.memory.tails.get(replica.id, slot.lines if slot is not None else ())),
    }


def render_release(release: Release, now: Instant) -> Row:
    """Render one line of `history`."""
    return {
        "release": release.number,
        "outcome": release.outcome,
        "image": release.spec.image,
        "image_id": release.image_id or None,
        "strategy": release.spec.strategy.type,
        "by": release.by,
        "reason": release.reason,
        "started": render_moment(release.started),
        "finished": render_moment(release.finished),
        "duration_s": duration_s(release, now),
        "kind": release.kind,
        "digest": release.digest,
        "was_live": release.was_live,
        "message": release.message,
    }


def duration_s(release: Release, now: Instant) -> float | None:
    """Return how long the rollout took, or has taken so far."""
    if release.started is None:
        return None
    end = release.finished or now
    if end.boot == release.started.boot:
        return round(elapsed_s(release.started, end), 3)
    return round(max(0.0, end.wall - release.started.wall), 3)


def render_moment(moment: Instant | None) -> str | None:
    """Render a moment for people and programs."""
    return None if moment is None else render_time(moment.wall)


def render_standing(standing: Standing | None) -> Row:
    """Render the row of an app that no pass has looked at, or (None) of a file whose app cannot be told."""
    invalid = standing is None or bool(standing.invalid)
    held = standing is not None and bool(standing.held)
    conditions = [name for name, holds in (("held", held), ("invalid", invalid)) if holds] or ["progressing"]
    wanted = standing.wanted if standing is not None else None
    return {
        "app": standing.app if standing is not None else None,
        "sync": conditions[0],
        "conditions": conditions,
        "health": "unknown",
        "release": None,
        "image": None,
        "target": None,
        "replicas": {"wanted": wanted.spec.replicas if wanted is not None else 0, "ready": 0, "routed": 0},
        "strategy": None,
        "phase": None,
        "step": None,
        "maintenance": False,
        "file": (standing.file or None) if standing is not None else None,
        "message": (standing.held or standing.invalid) if standing is not None else "",
        "since": None,
        "change": 0,
    }


def render_step(step: Any) -> Row:
    """Render one operation of a rollout, as the store keeps it."""
    return {
        "time": render_time(step.at),
        "text": step.text,
        "because": step.because,
        "state": step.state,
        "outcome": step.outcome,
        "times": step.times,
    }
