"""
When an app whose document is not there any more is taken down, and when that waits for a person.

Knows nothing of files; moments arrive as arguments, in steady seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

GRACE_S = 3.0
"""An app is removed after it stayed gone this long."""
WINDOW_S = 60.0
"""Apps gone within this time are gone together."""
MANY = 4
"""From this many apps on, more than half of them gone together is taken for a mistake."""


@dataclass(frozen=True, slots=True)
class Absence:
    """One app that the directory does not hold."""

    since: float
    held: str = ""
    """Why removal waits for a person; empty: it does not."""
    over: bool = False
    """The rules have run their course: the app is to be taken down, or has been."""
    ordered: bool = False
    """A person asked for it, so it does not count as an accident."""


def judge_absences(
    before: Mapping[str, Absence],
    *,
    present: Collection[str],
    absent: Collection[str],
    ordered: Collection[str],
    shaken: str,
    now: float,
    has_newcomer: bool = False,
) -> Mapping[str, Absence]:
    """
    Return all absences as they stand at *now*.

    *present* and *absent* are the apps that had something to lose before this look; *shaken* says what is
    wrong with the directory itself ("" if nothing is), for then nothing in it can be believed. *has_newcomer*:
    the directory holds an app that had nothing yet, which may have taken the place of the last one.
    """
    found = {app: _order(before.get(app) or Absence(now), app in ordered) for app in sorted(absent)}
    reason = shaken or _accident(found, len(present), now, has_newcomer=has_newcomer)
    if reason:
        found = {app: _hold(absence, reason) for app, absence in found.items()}
    return {app: _expire(absence, now) for app, absence in found.items()}


def next_expiry(absences: Mapping[str, Absence]) -> float | None:
    """Return when the next app's grace ends."""
    return min((a.since + GRACE_S for a in absences.values() if not a.over and not a.held), default=None)


def _order(absence: Absence, ordered: bool) -> Absence:
    return replace(absence, over=True, held="", ordered=True) if ordered else absence


def _accident(found: Mapping[str, Absence], present: int, now: float, *, has_newcomer: bool) -> str:
    """Return why the absences look like a mistake; "" if they do not."""
    lately = sum(1 for absence in found.values() if not absence.ordered and now - absence.since < WINDOW_S)
    total = present + lately
    if total >= MANY and lately * 2 > total:
        return f"{lately} of {total} apps are gone within {WINDOW_S:.0f} s"
    if not present and len(found) >= 2 and not (has_newcomer and lately <= 1):
        return "the only app left is gone"
    return ""


def _hold(absence: Absence, reason: str) -> Absence:
    return absence if absence.over or absence.held else replace(absence, held=reason)


def _expire(absence: Absence, now: float) -> Absence:
    if absence.over or absence.held or now - absence.since < GRACE_S:
        return absence
    return replace(absence, over=True)
