"""Since which version an upstream may not be picked any more: what a report of "drained" is measured against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from controller.routing.table import AppRoutes

_REMEMBERED = 200
"""Former upstreams kept per app; beyond it the oldest are forgotten."""

Leaving = dict[str, dict[str, int]]
"""App -> upstream id -> version."""


def follow_change(
    leaving: Leaving, changes: Mapping[str, AppRoutes | None], before: Mapping[str, AppRoutes], version: int
) -> Leaving:
    """Return *leaving* as it is once *changes* are in force as *version*."""
    after = dict(leaving)
    for app, routes in changes.items():
        was, now = _pickable(before.get(app)), _pickable(routes)
        entry = {upstream: since for upstream, since in leaving.get(app, {}).items() if upstream not in now}
        entry |= dict.fromkeys(sorted(was - now), version)
        # Draining from the start (after a restart, say): nobody could pick it under an earlier version either.
        present = {one.id for one in routes.upstreams} if routes is not None else set()
        entry |= dict.fromkeys(sorted(present - now - entry.keys()), version)
        after[app] = _newest(entry, keep=present)
    return {app: entry for app, entry in after.items() if entry}


def _pickable(routes: AppRoutes | None) -> set[str]:
    if routes is None:
        return set()
    return {one.id for one in routes.upstreams if one.state in ("ready", "assets")}


def _newest(entry: dict[str, int], keep: Iterable[str]) -> dict[str, int]:
    surplus = len(entry) - _REMEMBERED
    if surplus <= 0:
        return entry
    kept = frozenset(keep)
    oldest = sorted((upstream for upstream in entry if upstream not in kept), key=lambda one: (entry[one], one))
    dropped = frozenset(oldest[:surplus])
    return {upstream: version for upstream, version in entry.items() if upstream not in dropped}
