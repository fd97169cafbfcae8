"""The lines of the event log that history itself adds."""

from __future__ import annotations

from controller.plan.situation import Order, Outcome, Release
from controller.store.events import Events, Level
from controller.store.steps import Step
from controller.store.thread import Transaction

_LEVELS: dict[Outcome, Level] = {"failed": "error", "rolled_back": "warning"}
_LONGEST = 500


def tell_release(events: Events, tx: Transaction, app: str, old: Release | None, new: Release, at: float) -> None:
    """Add a line where a release is new or its outcome is."""
    if old is not None and old.outcome == new.outcome:
        return
    why = new.reason if old is None else new.message
    text = f"release {new.number}: {new.outcome.replace('_', ' ')}"
    data = {"release": new.number, "outcome": new.outcome}
    level = _LEVELS.get(new.outcome, "info")
    events.write(tx, at, app, "release", level, _with_reason(text, why), data)


def tell_step(events: Events, tx: Transaction, before: Step, step: Step, at: float) -> None:
    """Add a line where an operation was tried, unless it ended just so the last time."""
    if step.state == "not_tried":
        return
    if step.times > 1 and (step.state, step.outcome) == (before.state, before.outcome):
        return
    failed = step.state == "failed"
    text = f"{step.text}: failed: {step.outcome}" if failed else _with_reason(step.text, step.because)
    data = {"release": step.release, "state": step.state}
    events.write(tx, at, step.app, "step", "warning" if failed else "info", text, data)


def tell_order(events: Events, tx: Transaction, order: Order) -> None:
    """Add a line for what a person asked."""
    text = f"{order.verb} asked by {order.by}" if order.by else f"{order.verb} asked"
    at = order.at.wall if order.at else 0.0
    events.write(tx, at, order.app, "order", "info", text, {"order": order.id, "verb": order.verb})


def _with_reason(text: str, why: str) -> str:
    first_line = next(iter(why.splitlines()), "")[:_LONGEST]
    return f"{text}: {first_line}" if first_line else text
