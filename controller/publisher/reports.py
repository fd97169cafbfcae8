"""What a worker may say on the feed, as values; whatever else it says ends that worker and nobody else's service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.publisher.meters import FORMER
from controller.routing.entries import decode_table
from controller.routing.table import Table
from controller.wire.codec import Unreadable
from controller.wire.fields import as_list, as_number, as_object, as_text, as_whole, said

LINE_BYTES = 16 * 1024 * 1024
"""Longest line of a worker: a whole table, when ours was lost."""

_NAME_MOST = 300
"""Longest name of an app or upstream; those of fixed routes are longer than other apps'."""

_DRAINED_MOST = 2000
_ROWS_MOST = 200_000
_BUCKETS_MOST = 100


@dataclass(frozen=True, slots=True)
class Hello:
    """A worker registers."""

    worker: int
    version: int
    """Of the table it has."""
    first: int | None
    """Of the first table it ever had."""
    drained: Mapping[tuple[str, str], int]
    """(app, upstream) -> version under which it had nothing open there."""
    faults: Mapping[str, str]
    """Apps that it cannot serve and answers with 503, and why."""


@dataclass(frozen=True, slots=True)
class Confirm:
    """The table of that version is in force there."""

    version: int
    faults: Mapping[str, str]
    """Apps of it that it cannot serve and answers with 503, and why."""


@dataclass(frozen=True, slots=True)
class Behind:
    """A change did not fit what it has."""


@dataclass(frozen=True, slots=True)
class TheirTable:
    """What it has, where we asked for it."""

    table: Table


@dataclass(frozen=True, slots=True)
class Drained:
    """It has nothing open on an upstream."""

    app: str
    upstream: str
    version: int


@dataclass(frozen=True, slots=True)
class UpstreamRefused:
    """An upstream refused it."""

    upstream: str


@dataclass(frozen=True, slots=True)
class Limit:
    """Something broke a limit."""

    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PolicyFault:
    """It could not check an app's policy for a request, and answered 503."""

    app: str
    why: str


@dataclass(frozen=True, slots=True)
class Meters:
    """Its counters."""

    counters: Mapping[str, Any]


Report = Hello | Confirm | Behind | TheirTable | Drained | UpstreamRefused | Limit | PolicyFault | Meters


def parse_report(message: Mapping[str, Any]) -> Report | None:
    """Read a worker's message; None for one that this version does not know. Raises Unreadable."""
    match message:
        case {"hello": hello}:
            return _parse_hello(as_object(hello))
        case {"confirm": version}:
            return Confirm(as_whole(version), _parse_faults(message))
        case {"behind": _}:
            return Behind()
        case {"table": table}:
            return TheirTable(_parse_table(as_object(table)))
        case {"kind": "drained"}:
            return Drained(_name(message, "app"), _name(message, "upstream"), as_whole(message.get("version")))
        case {"kind": "refused"}:
            return UpstreamRefused(_name(message, "upstream"))
        case {"kind": "limit"}:
            return Limit(_parse_limit(message))
        case {"kind": "fault"}:
            return PolicyFault(_name(message, "app"), said(message.get("why"), most=_NAME_MOST))
        case {"kind": "meters"}:
            return Meters(parse_meters(as_object(message.get("counters", {}))))
    return None


def _name(raw: Mapping[str, Any], field: str) -> str:
    return as_text(raw.get(field), most=_NAME_MOST)


def _parse_hello(raw: Mapping[str, Any]) -> Hello:
    first = raw.get("first")
    entries = [as_object(one) for one in as_list(raw.get("drained", []), most=_DRAINED_MOST)]
    return Hello(
        worker=as_whole(raw.get("worker")),
        version=as_whole(raw.get("version")),
        first=None if first is None else as_whole(first),
        drained={(_name(one, "app"), _name(one, "upstream")): as_whole(one.get("version")) for one in entries},
        faults=_parse_faults(raw),
    )


def _parse_faults(raw: Mapping[str, Any]) -> dict[str, str]:
    told = as_object(raw.get("faults", {}))
    return {as_text(app, most=_NAME_MOST): said(why, most=_NAME_MOST) for app, why in told.items()}


def _parse_table(raw: Mapping[str, Any]) -> Table:
    as_whole(raw.get("version"))
    as_object(raw.get("apps"))
    try:
        return decode_table(raw)
    except ValueError as error:
        raise Unreadable("a route table that cannot be read") from error


def _parse_limit(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "app": _name(raw, "app"),
        "what": as_text(raw.get("what"), most=_NAME_MOST),
        "why": said(raw.get("why"), most=_NAME_MOST),
        "required": raw.get("required") is True,
    }


def parse_meters(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a worker's counters, of kinds that can be summed and shown whatever their values. Raises Unreadable."""
    bounds = [as_number(one) for one in as_list(raw.get("bounds", []), most=_BUCKETS_MOST)]
    return {
        "requests": [_parse_requests(row, len(bounds) + 1) for row in _rows(raw, "requests")],
        "events": [
            {"app": _name(row, "app"), "what": _name(row, "what"), "count": as_whole(row.get("count"))}
            for row in _rows(raw, "events")
        ],
        "active": [
            {"app": _name(row, "app"), "requests": as_whole(row.get("requests")), "held": as_whole(row.get("held", 0))}
            for row in _rows(raw, "active")
        ],
        "whole": raw.get("whole") is not False,
        "folded": [_parse_release(one) for one in as_list(raw.get("folded", []), most=_ROWS_MOST)],
        "gone": [as_text(one, most=_NAME_MOST) for one in as_list(raw.get("gone", []), most=_ROWS_MOST)],
        "bounds": bounds,
        "connections": as_whole(raw.get("connections", 0)),
        "lag_s": as_number(raw.get("lag_s", 0.0)),
    }


def _parse_release(raw: object) -> tuple[str, int]:
    app, release = as_list(raw, most=2) if isinstance(raw, list) and len(raw) == 2 else ("", None)
    return as_text(app, most=_NAME_MOST), as_whole(release)


def _rows(raw: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [as_object(row) for row in as_list(raw.get(name, []), most=_ROWS_MOST)]


def _parse_requests(row: Mapping[str, Any], buckets: int) -> dict[str, Any]:
    counts = [as_whole(one) for one in as_list(row.get("buckets"), most=_BUCKETS_MOST + 1)]
    if len(counts) != buckets:
        raise Unreadable("expected as many buckets as there are bounds, and one more")
    return {
        "app": _name(row, "app"),
        "release": as_whole(row.get("release"), least=FORMER),
        "class": as_whole(row.get("class"), most=9),
        "count": as_whole(row.get("count")),
        "seconds": as_number(row.get("seconds")),
        "bytes_in": as_whole(row.get("bytes_in", 0)),
        "bytes_out": as_whole(row.get("bytes_out", 0)),
        "buckets": counts,
    }
