"""`oton top`: live requests, errors and latency per app and release, from two looks at sums that only grow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import typer

from controller.cli.client import Client
from controller.cli.follow import AWAY_S, bear
from controller.cli.options import Output, target
from controller.cli.pipes import end_with_reader
from controller.cli.show import cell, print_data, print_line, print_table, say
from controller.cli.status import clear_screen
from controller.cli.trouble import OK

COLUMNS = {
    "APP": "app",
    "RELEASE": "release",
    "REQ/S": "per_s",
    "ERRORS": "shown_errors",
    "P50": "shown_p50",
    "P95": "shown_p95",
    "OPEN": "open",
    "HELD": "held",
    "OUT/S": "shown_out",
    "TOTAL": "requests",
}
SPAN_S = 1.0


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one second's figures and end.")] = False,
    output: Output = "table",
) -> int:
    """Show live requests, errors (5xx) and latency per app and release (-: no route, no replica); Ctrl-C ends it."""
    if not once:
        end_with_reader()
    with Client(target()) as client:
        before = client.get("/v1/top")
        try:
            while True:
                time.sleep(SPAN_S)
                now = bear(partial(client.get, "/v1/top"), 0.0 if once else AWAY_S, time.sleep)
                show(compare(before, now), output, once=once)
                if once:
                    return OK
                before = now
        except KeyboardInterrupt:
            return OK


def show(rows: list[dict[str, Any]], output: Any, *, once: bool) -> None:
    """Print one span's figures."""
    if output != "table":
        if once:
            print_data(rows, output)
        else:
            for row in rows:
                print_line(row, output)
        return
    if not once:
        clear_screen()
    if not rows:
        say("no requests yet")
        return
    print_table([[cell(prepare(row), key) for key in COLUMNS.values()] for row in busy(rows)], list(COLUMNS))


def busy(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of each app's newest release, and of former ones while they have something to do."""
    newest = {row["app"]: row["release"] for row in rows}  # by app and release, so the last one stays
    return [row for row in rows if row["release"] == newest[row["app"]] or row["per_s"] or row["open"] or row["held"]]


def compare(before: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what happened between two looks, by app and release."""
    span_s = max(0.001, now["at"] - before["at"])
    old = {(row["app"], row["release"]): row for row in before["apps"]}
    return [compare_row(old.get((row["app"], row["release"])), row, now["bounds_s"], span_s) for row in now["apps"]]


def compare_row(old: dict[str, Any] | None, row: dict[str, Any], bounds: list[float], span_s: float) -> dict[str, Any]:
    """Return one app and release's figures for a span."""
    past = old or {"requests": 0, "errors": 0, "bytes_out": 0, "buckets": [0] * len(row["buckets"])}
    count = max(0, row["requests"] - past["requests"])
    buckets = [max(0, one - two) for one, two in zip(row["buckets"], past["buckets"], strict=True)]
    errors = max(0, row["errors"] - past["errors"])
    return {
        "app": row["app"] or None,
        "release": row["release"] or None,
        "per_s": round(count / span_s, 1),
        "error_rate": round(errors / count, 4) if count else 0.0,
        "p50_s": quantile(buckets, bounds, 0.5),
        "p95_s": quantile(buckets, bounds, 0.95),
        "open": row["open"],
        "held": row["held"],
        "out_bytes_per_s": round(max(0, row["bytes_out"] - past["bytes_out"]) / span_s),
        "requests": row["requests"],
    }


def quantile(buckets: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """Return the upper bound of the bucket that holds a share of all; None where there are none, or it has no bound."""
    wanted, seen = share * sum(buckets), 0
    for bound, count in zip(bounds, buckets, strict=False):
        seen += count
        if seen >= wanted > 0:
            return bound
    return None


def prepare(row: dict[str, Any]) -> dict[str, Any]:
    """Add the columns that are put together."""
    return row | {
        "shown_errors": f"{100 * row['error_rate']:.1f}%",
        "shown_p50": show_latency(row["p50_s"]),
        "shown_p95": show_latency(row["p95_s"]),
        "shown_out": show_bytes(row["out_bytes_per_s"]),
    }


def show_latency(seconds: float | None) -> str:
    """Render a bucket's bound."""
    if seconds is None:
        return "-"
    return f"≤{seconds * 1000:g}ms" if seconds < 1 else f"≤{seconds:g}s"


def show_bytes(count: float) -> str:
    """Render bytes in the largest unit that leaves a whole number."""
    for unit in ("B", "K", "M"):
        if count < 1024:
            return f"{count:.0f}{unit}"
        count /= 1024
    return f"{count:.1f}G"
