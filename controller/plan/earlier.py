"""Which earlier releases can still be asked for: where a rollback goes, and what it therefore needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from controller.plan.situation import Memory, Release

Releases = Mapping[int, Release]

WAY_BACK = 10
"""So many rollbacks in a row find where to go, whatever failed or was only restarted since."""


def find_earlier(releases: Releases, live: Release) -> Release | None:
    """Return the newest release before the one that serves that was live, was not rolled back, and differs.

    What serves by a rollback counts as old as the release it went back to, so that repeating it walks back.
    """
    origin = find_origin(releases, live)
    for number, release in sorted(releases.items(), reverse=True):
        is_candidate = number < origin and release.was_live and release.outcome != "rolled_back"
        if is_candidate and not is_same(release, live):
            return release
    return None


def find_origin(releases: Releases, live: Release) -> int:
    """Return the number under which a person first asked for what serves now."""
    if live.kind not in ("rollback", "undo"):
        return live.number
    asked = (n for n, r in releases.items() if is_same(r, live) and r.kind not in ("rollback", "undo"))
    return max((n for n in asked if n < live.number), default=live.number)


def is_same(one: Release, other: Release) -> bool:
    """Say whether two releases are the same spec with the same image."""
    return (one.digest, one.image_id) == (other.digest, other.image_id)


def walk_back(releases: Releases, memory: Memory, most: int = WAY_BACK) -> Iterator[Release]:
    """Yield what serves, and what would after each of up to *most* rollbacks in a row."""
    serving = releases.get(memory.live or 0)
    while serving is not None and most >= 0:
        yield serving
        goal = find_earlier(releases, serving)
        serving = replace(goal, number=memory.last_release + 1, kind="rollback") if goal is not None else None
        most -= 1


def needed_releases(releases: Releases, memory: Memory) -> frozenset[int]:
    """Return the releases that must not be forgotten: those that memory names, and what rollbacks look at."""
    needed = named_releases(memory)
    for serving in walk_back(releases, memory):
        needed.add(find_origin(releases, serving))
        if (goal := find_earlier(releases, serving)) is not None:
            needed.add(goal.number)
    return frozenset(needed & releases.keys())


def releases_with_images(releases: Releases, memory: Memory, most: int) -> frozenset[int]:
    """Return the releases whose images stay: the last *most* that were live, what is in use, and a rollback's target.

    One that failed never served, so nobody goes back to it; it takes no other's place.
    """
    were_live = sorted((number for number, release in releases.items() if release.was_live), reverse=True)
    live = releases.get(memory.live or 0)
    goal = find_earlier(releases, live) if live is not None else None
    target = {goal.number} if goal is not None else set()
    return frozenset({*were_live[:most], *target, *named_releases(memory)} & releases.keys())


def named_releases(memory: Memory) -> set[int]:
    """Return the numbers of the releases that *memory* speaks of."""
    named = {memory.live, memory.failed}
    if memory.rollout:
        named |= {memory.rollout.release, memory.rollout.previous}
    if memory.warm:
        named.add(memory.warm.release)
    if memory.pin:
        named.add(memory.pin.release)
    return {number for number in named if number is not None}
