"""The history follows what serves: the release that serves reads `live`, and no other does."""

from __future__ import annotations

from dataclasses import replace

from controller.plan.situation import Decision, Memory, Outcome, Release, Situation


def follow_what_serves(situation: Situation, decision: Decision) -> Decision:
    """Return *decision* with the outcomes that follow from what it says serves, so that both are written at once."""
    releases = {**situation.releases, **{r.number: r for r in decision.releases}}
    changed = {n: _set_right(decision.memory, release) for n, release in releases.items()}
    news = {n: r for n, r in changed.items() if r != releases[n]}
    if not news:
        return decision
    all_of_them = {**{r.number: r for r in decision.releases}, **news}
    return replace(decision, releases=tuple(all_of_them[n] for n in sorted(all_of_them)))


def _set_right(memory: Memory, release: Release) -> Release:
    if release.number != memory.live:
        return replace(release, outcome="superseded") if release.outcome == "live" else release
    if release.outcome in _still_open(memory, release):
        return release
    return replace(release, outcome="live", was_live=True)


def _still_open(memory: Memory, release: Release) -> tuple[Outcome, ...]:
    """Return what the release that serves may read: while its own rollout, or an undo of it, is under way, more."""
    rollout = memory.rollout
    if rollout is not None and rollout.release == release.number:
        return ("live", "rolling_out")
    return ("live", "rolled_back", "failed") if rollout is not None and rollout.kind == "undo" else ("live",)
