"""What the proxy has counted, by app and release, for whoever watches it live."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from controller.api.auth import Who
from controller.api.parts import Parts
from controller.api.rights import Guarded, needs
from controller.queries import Row

FAILED_CLASS = 5


def build_router(parts: Parts) -> APIRouter:
    """Return GET /v1/top."""
    router = APIRouter(route_class=Guarded, prefix="/v1", tags=["service"])

    @router.get("/top", summary="Requests, errors and latency so far, by app and release; sums that only grow")
    @needs("read")
    def top(who: Who) -> Row:
        counters = parts.publisher.counters()
        rows = [row for row in sum_rows(counters) if who.sees(row["app"])]
        return {"at": parts.clock.now().steady, "bounds_s": list(counters.get("bounds", ())), "apps": rows}

    return router


def sum_rows(counters: Any) -> list[Row]:
    """Return one row for each app and release (app "": what no route took), all status classes added up."""
    found: dict[tuple[str, int], Row] = {}
    for row in counters.get("requests", ()):
        if row["release"] < 0:
            continue  # releases that have left; their sum grows by what is counted already
        key = (row["app"], row["release"])
        into = found.setdefault(key, empty_row(*key, len(row["buckets"])))
        into["requests"] += row["count"]
        into["errors"] += row["count"] if row["class"] == FAILED_CLASS else 0
        into["seconds"] += row["seconds"]
        into["bytes_in"] += row["bytes_in"]
        into["bytes_out"] += row["bytes_out"]
        into["buckets"] = [one + other for one, other in zip(into["buckets"], row["buckets"], strict=True)]
    for row in counters.get("active", ()):
        newest = max((key for key in found if key[0] == row["app"]), default=None)
        if newest is not None:
            found[newest] |= {"open": row["requests"], "held": row["held"]}
    return [found[key] for key in sorted(found)]


def empty_row(app: str, release: int, buckets: int) -> Row:
    """Return a row that has counted nothing; release 0 stands for answers that no replica gave."""
    sums = dict.fromkeys(("requests", "errors", "bytes_in", "bytes_out", "open", "held"), 0)
    return {"app": app, "release": release, **sums, "seconds": 0.0, "buckets": [0] * buckets}
