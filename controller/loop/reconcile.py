"""One pass over one app: look, think, note, act, note."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import tenacity

from controller.loop.execute import execute
from controller.loop.failpoints import pass_point
from controller.loop.observe import Ports, observe
from controller.plan.decide import decide
from controller.plan.settle import settle
from controller.plan.situation import Decision, Done, Situation

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 30.0

_jitter = tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)


@dataclass(frozen=True, slots=True)
class Again:
    """When to pass over the app again, and whether this pass met trouble that may pass."""

    in_s: float | None
    """None: only when something rings."""
    was_trouble: bool = False


def reconcile(app: str, ports: Ports) -> Again:
    """Bring *app* one safe step nearer to what its file asks."""
    situation = observe(app, ports)
    pass_point("observed")
    decision = decide(situation)
    _note_down(app, situation, decision, ports)  # before acting: a crash here is seen by the next pass
    pass_point("intended")
    releases = {**situation.releases, **{r.number: r for r in decision.releases}}
    situation = replace(situation, releases=releases, memory=decision.memory)
    done = execute(situation, decision.operations, ports)
    if done:
        memory = settle(situation, decision.memory, done, ports.clock.now())
        pass_point("settled")
        ports.history.conclude(app, memory, done, ports.clock.now())
        pass_point("concluded")
    return _next_look(decision, done)


def _note_down(app: str, situation: Situation, decision: Decision, ports: Ports) -> None:
    """Write the intent and only then show it: nobody is told of a release that cannot be looked up."""
    shown = Decision(memory=situation.memory)
    try:
        ports.history.intend(app, decision, situation.now)
        shown = decision
    finally:
        ports.watch(situation, shown)


def _next_look(decision: Decision, done: Sequence[Done]) -> Again:
    if any(d.state == "failed" for d in done):
        return Again(None, was_trouble=True)
    if done:
        return Again(0.0)
    return Again(decision.look_again_s)


def backoff_s(attempt: int) -> float:
    """Return the jittered wait before attempt *attempt* + 1 of a pass, 0.2 s to 30 s at the most."""
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt
    return max(FIRST_WAIT_S / 2, _jitter(state))
