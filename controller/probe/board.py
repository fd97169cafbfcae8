"""What an answer is worth: the rules of the contract's section 5 on values alone; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.ports import Target
from controller.probe.words import render_engine
from controller.world.model import Verdict

FRESH_S = 30.0
"""For this long after it got ready a replica is asked every `interval`, then every `steady`."""
ALIVE_S = 5.0
"""Method alive: so long without an exit where no `start_period` is given."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one probe ended."""

    passed: bool
    accepts: bool
    """The connection came about, whatever was answered."""
    answer: str
    counts: bool = True
    """False: it says nothing about the replica (we ran out of sockets)."""


def first_verdict(target: Target, now: float) -> Verdict:
    """Return the verdict on a replica that was not watched before."""
    if target.known_ready:
        return Verdict(ready=True, ever_ready=True, accepts=True, since=now, answer="ready before we started")
    return Verdict(since=now, answer="not asked yet")


def judge(verdict: Verdict, target: Target, outcome: Outcome, now: float) -> Verdict:
    """Return the verdict after one more probe."""
    if not outcome.counts:
        return verdict
    if outcome.passed:
        return _pass(verdict, target, outcome, now)
    in_start = now - target.started < target.health.start_period
    failures = 0 if in_start else min(verdict.failures + 1, 1_000_000)
    seen = replace(verdict, passes=0, failures=failures, accepts=outcome.accepts, answer=outcome.answer)
    return fall(seen, now) if verdict.ready and failures >= target.health.failures else seen


def _pass(verdict: Verdict, target: Target, outcome: Outcome, now: float) -> Verdict:
    passes = min(verdict.passes + 1, target.health.passes)
    seen = replace(verdict, passes=passes, failures=0, accepts=outcome.accepts, answer=outcome.answer)
    if verdict.ready or passes < target.health.passes:
        return seen
    return replace(seen, ready=True, ever_ready=True, since=now)


def fall(verdict: Verdict, now: float) -> Verdict:
    """Return the verdict on one that was ready and is not any more."""
    if not verdict.ready:
        return verdict
    return replace(verdict, ready=False, since=now, unready_count=verdict.unready_count + 1)


def judge_stopped(verdict: Verdict, now: float) -> Verdict:
    """Return the verdict on one that is paused or has ended: unrouted at once, no probe is needed."""
    return replace(fall(verdict, now), passes=0, accepts=False, answer="paused, or it has ended")


def judge_engine(verdict: Verdict, target: Target, now: float) -> Verdict:
    """Return the verdict where the engine's own health check decides; it has counted the failures itself."""
    answer = render_engine(target)
    if target.verdict == "healthy":
        return _pass(replace(verdict, passes=target.health.passes), target, Outcome(True, True, answer), now)
    if target.verdict == "unhealthy":
        failures = max(target.health.failures, verdict.failures)
        return fall(replace(verdict, passes=0, failures=failures, accepts=True, answer=answer), now)
    if verdict.ready and not verdict.failures and target.known_ready:
        return verdict  # after a restart of ours a check that is under way takes no route away
    return fall(replace(verdict, passes=0, accepts=True, answer=answer), now)


def judge_alive(verdict: Verdict, target: Target, now: float) -> Verdict:
    """Return the verdict where running for a while is all that is asked."""
    wanted, ran = alive_s(target), max(0.0, now - target.started)
    if ran >= wanted or verdict.ready:
        done = Outcome(True, True, f"running for {wanted:g} s without an exit")
        return _pass(replace(verdict, passes=target.health.passes), target, done, now)
    return replace(verdict, accepts=True, answer=f"running; ready after {wanted:g} s without an exit")


def alive_s(target: Target) -> float:
    """Return how long a replica without any probe has to run."""
    return target.health.start_period or ALIVE_S


def pause_s(verdict: Verdict, target: Target, now: float) -> float:
    """Return the seconds until the next probe."""
    is_steady = verdict.ready and not verdict.failures and now - verdict.since >= FRESH_S
    return target.health.steady if is_steady else target.health.interval


def is_news(old: Verdict, new: Verdict, target: Target) -> bool:
    """Say whether the loop has to look again because of this change."""
    crossed = old.failures < target.health.failures <= new.failures
    panics = new.accepts != old.accepts and old.ever_ready and not new.ready
    return old.ready != new.ready or crossed or panics


def is_talk(old: Verdict, new: Verdict) -> bool:
    """Say whether only the words about one that was never ready have changed."""
    return not new.ever_ready and old.answer != new.answer


def start_over(verdict: Verdict, now: float) -> Verdict:
    """Return the verdict on a replica whose container runs anew; only what grows is kept."""
    count = verdict.unready_count + verdict.ready
    return Verdict(since=now, unready_count=count, answer="started again, not asked yet")
