"""
What an order would bring into force, so that it can be judged before it is given.

An order that was judged carries the digest of what was found; it is turned down where a pass finds something else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.plan.orders import answer_order
from controller.plan.picture import Picture
from controller.plan.situation import Answer, Decision, Note, Order
from controller.spec.model import AppSpec

NOTHING = "nothing"
"""What an order carries that was judged when it would have brought nothing."""


@dataclass(frozen=True, slots=True)
class Brought:
    """A spec that an order would bring into force."""

    spec: AppSpec
    digest: str


def find_brought(p: Picture, order: Order) -> Brought | None:
    """Return what the order would bring into force now; None: nothing that does not serve or come by itself."""
    match order.verb:
        case "apply" | "delete" | "suspend" | "maintenance":
            return None
        case "promote":
            return _of_release(p, p.s.memory.rollout.release if p.s.memory.rollout else None)
        case "abort":
            return _undone(p)
        case "resume":
            return _asked_by_file(p)
        case "rollback" | "unpin" | "retry" | "restart":
            return _begun(p, order)


def answer_judged(p: Picture, order: Order) -> Decision | None:
    """Answer the order as `answer_order` does, unless it would bring something else than what was judged."""
    brought = find_brought(p, order) if order.digest and order.verb != "apply" else None
    if order.verb == "apply" or order.digest in ("", brought.digest if brought is not None else NOTHING):
        return answer_order(p, order)
    text = "what it would bring back has changed in the meantime; see: oton status, then try again"
    return Decision(
        memory=replace(p.s.memory, change=max(p.s.memory.change, order.id)),
        answers=(Answer(order=order.id, result="conflict", text=text),),
        notes=(Note(f"{order.verb} by {order.by or 'someone'} rejected: {text}", "warning"),),
    )


def _begun(p: Picture, order: Order) -> Brought | None:
    decision = answer_order(p, order)
    if decision is None:
        return _asked_by_file(p)  # it waits for something, and is the file's when that is over
    if decision.memory.last_release == p.s.memory.last_release:
        return _undone(p) if _turns_back(p, decision) else None
    begun = decision.releases[-1]
    return Brought(begun.spec, begun.digest)


def _turns_back(p: Picture, decision: Decision) -> bool:
    before, after = p.s.memory.rollout, decision.memory.rollout
    return before is not None and after is not None and not before.failing and bool(after.failing)


def _undone(p: Picture) -> Brought | None:
    """Return what comes back when the open rollout is undone; before its switch that is what serves anyway."""
    rollout = p.s.memory.rollout
    return _of_release(p, rollout.previous if rollout is not None and rollout.switched is not None else None)


def _asked_by_file(p: Picture) -> Brought | None:
    wanted = p.s.standing.wanted
    return None if wanted is None else Brought(wanted.spec, wanted.digest)


def _of_release(p: Picture, number: int | None) -> Brought | None:
    release = p.release(number)
    return None if release is None else Brought(release.spec, release.digest)
