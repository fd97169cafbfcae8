"""
Counters of all workers, summed, that do not go back when a worker ends.

A worker reports `requests` and `events`, rows whose sums only grow, and how it is now: `active`,
`connections`, `lag_s`. After its first report it tells only rows that changed. What a release counted that has left
is added to its app's row of release -1 (`FORMER`), there and, for workers that have gone, here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

GROWING = ("requests", "events")
_SUMMED = frozenset(("count", "seconds", "bytes_in", "bytes_out", "buckets", "requests", "held"))

FORMER = -1
"""In place of a release: all those of the app that have left the table."""

_MOST = 400_000
"""Rows that are kept of one worker."""

Meters = Mapping[str, Any]


def add_up(parts: Iterable[Meters]) -> dict[str, Any]:
    """Return one report in place of many: rows of the same kind are summed, the worst `lag_s` is kept."""
    rows: dict[str, dict[tuple[tuple[str, Any], ...], dict[str, Any]]] = {name: {} for name in (*GROWING, "active")}
    total: dict[str, Any] = {"connections": 0, "lag_s": 0.0, "bounds": []}
    for part in parts:
        for name, found in rows.items():
            for row in part.get(name, ()):
                _add_row(found, row)
        total["connections"] += int(part.get("connections", 0))
        total["lag_s"] = max(total["lag_s"], float(part.get("lag_s", 0.0)))
        total["bounds"] = part.get("bounds") or total["bounds"]
    return total | {name: list(found.values()) for name, found in rows.items()}


def merge_report(before: Meters, told: Meters) -> dict[str, Any]:
    """Return a worker's meters after a report of what changed since *before*, or of the whole."""
    if told.get("whole", True):
        return dict(told)
    folded, gone = {tuple(pair) for pair in told.get("folded", ())}, frozenset(told.get("gone", ()))
    rows = {
        _key_of(row): row
        for row in before.get("requests", ())
        if row["app"] not in gone and (row["app"], row["release"]) not in folded
    }
    events = {_event_of(row): row for row in before.get("events", ()) if row["app"] not in gone}
    if len(rows) + len(events) > _MOST:
        rows, events = {}, {}  # no honest worker has so many
    rows |= {_key_of(row): row for row in told["requests"]}
    events |= {_event_of(row): row for row in told["events"]}
    return {**told, "requests": list(rows.values()), "events": list(events.values())}


def keep_growing(
    part: Meters, apps: Collection[str], is_current: Callable[[str, int], bool] = lambda _app, _release: True
) -> dict[str, Any]:
    """
    Return what stays true of a worker that has gone, for *apps* and for what belongs to none.

    What releases counted that are not current any more is added up.
    """
    kept = {name: [row for row in part.get(name, ()) if not row.get("app") or row["app"] in apps] for name in GROWING}
    kept["requests"] = [
        row if row["release"] <= 0 or is_current(row["app"], row["release"]) else {**row, "release": FORMER}
        for row in kept["requests"]
    ]
    summed = add_up([kept])
    return {name: summed[name] for name in GROWING} | {"bounds": part.get("bounds", [])}


def held(part: Meters, app: str) -> int:
    """Return how many requests of *app* wait in one worker."""
    return sum(int(row.get("held", 0)) for row in part.get("active", ()) if row.get("app") == app)


def _add_row(found: dict[tuple[tuple[str, Any], ...], dict[str, Any]], row: Mapping[str, Any]) -> None:
    key = tuple(sorted((name, value) for name, value in row.items() if name not in _SUMMED))
    sums = found.get(key)
    if sums is None:
        found[key] = {name: list(value) if isinstance(value, list) else value for name, value in row.items()}
        return
    for name in _SUMMED & row.keys():
        if isinstance(row[name], list):
            # Of another length where a worker of a neighbouring version has other bounds: the first one's are kept.
            if len(sums[name]) == len(row[name]):
                sums[name] = [one + two for one, two in zip(sums[name], row[name], strict=True)]
        else:
            sums[name] = sums.get(name, 0) + row[name]


def _key_of(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return row["app"], row["release"], row["class"]


def _event_of(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["app"], row["what"]
