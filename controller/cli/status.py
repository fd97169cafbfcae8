"""`oton status` and `oton history`."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Annotated, Any

import typer

from controller.cli.client import Client, app_path
from controller.cli.follow import AWAY_S, bear
from controller.cli.options import AppName, Output, target
from controller.cli.pipes import end_with_reader
from controller.cli.show import age, cell, out, paint, print_data, print_line, print_rows, print_table, render_span, say

LOOK_S = 0.5
ENGINE_AWAY = (
    "the container engine cannot be reached: apps keep serving; nothing is changed or repaired until it answers; "
    "what is wrong: oton doctor"
)
COLUMNS = {
    "APP": "app",
    "SYNC": "sync",
    "HEALTH": "health",
    "RELEASE": "shown_release",
    "REPLICAS": "shown_replicas",
    "AGE": "age",
    "IMAGE": "image",
    "MESSAGE": "message",
}
REPLICAS = {
    "REPLICA": "name",
    "RELEASE": "release",
    "STATE": "state",
    "READY": "ready",
    "ROUTED": "routed",
    "ADDRESS": "address",
    "AGE": "age",
    "MESSAGE": "note",
}
HISTORY = {
    "RELEASE": "release",
    "OUTCOME": "outcome",
    "IMAGE": "image",
    "STRATEGY": "strategy",
    "BY": "by",
    "AGE": "age",
    "TOOK": "took",
    "REASON": "why",
}
ROUTES = {"HOST": "shown_host", "PATH": "path", "RELEASE": "release", "MODE": "mode", "UPSTREAMS": "shown_upstreams"}


def status(
    app: Annotated[str | None, typer.Argument(metavar="[APP]", show_default=False)] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Print again whenever something changes.")] = False,
    output: Output = "table",
) -> int:
    """Show how apps stand; with APP: its replicas, routes and rollout."""
    with Client(target()) as client:
        if not watch:
            rows = load(client, app)
            if client.engine_away:
                say(ENGINE_AWAY)
            if output == "table":
                print_status(rows, app, away=client.engine_away)
            else:
                print_data(rows, output)
            return 0
        watch_status(client, app, output)
    return 0


def load(client: Client, app: str | None) -> list[dict[str, Any]]:
    """Return the rows to show."""
    return list(client.get("/v1/apps")) if app is None else [client.get(app_path(app))]


def watch_status(client: Client, app: str | None, output: Any) -> None:
    """Print whenever something changes, until interrupted."""
    end_with_reader()
    before: dict[Any, Any] = {}
    shown = ""
    away = False
    while True:
        # Once it has begun, a restart of the service is something to watch and no reason to end.
        rows = bear(partial(load, client, app), AWAY_S, time.sleep) if before or shown else load(client, app)
        if output == "table":
            now = repr([client.engine_away, *(strip(row) for row in rows)])
            if now != shown:
                clear_screen()
                if client.engine_away:
                    say(ENGINE_AWAY)
                print_status(rows, app, away=client.engine_away)
                shown = now
        else:
            if client.engine_away and not away:
                say(ENGINE_AWAY)
            away = client.engine_away
            for row in rows:
                key = row["app"] or row["file"]
                if before.get(key) != strip(row):
                    before[key] = strip(row)
                    print_line(row, output)
        time.sleep(LOOK_S)


def strip(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without what changes when nothing has."""
    return {key: value for key, value in row.items() if key != "change"}


def clear_screen() -> None:
    """Begin at the top of the terminal again; on a pipe, tables follow one another."""
    out("\x1b[H\x1b[2J" if sys.stdout.isatty() else "")


def print_status(rows: list[dict[str, Any]], app: str | None, *, away: bool = False) -> None:
    """Print rows for a person; with the engine *away*, what runs may not be known."""
    if app is None:
        empty = "no apps are known" if away else "no apps; begin with: oton init"
        print_rows([prepare(row) for row in rows], "table", COLUMNS, name="app", empty=empty)
        return
    for row in rows:
        print_one(prepare(row))


def prepare(row: dict[str, Any]) -> dict[str, Any]:
    """Add the columns that are put together."""
    counts, target_release = row["replicas"], row["target"]
    release = "-" if row["release"] is None else str(row["release"])
    return row | {
        "shown_release": f"{release} → {target_release}" if target_release not in (None, row["release"]) else release,
        "shown_replicas": f"{counts['ready']}/{counts['wanted']}",
        "age": age(row.get("since")),
        "message": phase_text(row),
    }


def phase_text(row: dict[str, Any]) -> str:
    """Return the message, with the phase of a rollout in front."""
    parts = [row["phase"] if row["target"] is not None else None, row["step"]]
    phase = " ".join(part for part in parts if part)
    text = ("maintenance; " if row["maintenance"] else "") + row["message"]
    return f"{phase}: {text}" if phase and text else phase or text


def print_one(row: dict[str, Any]) -> None:
    """Print one app in full."""
    counts = row["replicas"]
    facts = {
        "app": row["app"],
        "sync": ", ".join(row["conditions"]),
        "health": row["health"],
        "release": row["shown_release"],
        "image": row["image"],
        "strategy": row["strategy"],
        "replicas": f"{counts['ready']} of {counts['wanted']} ready, {counts['routed']} routed",
        "file": row["file"],
        "message": row["message"],
    }
    for name, value in facts.items():
        if value:
            out(f"{paint(name.ljust(9), 'dim', sys.stdout)} {cell({'value': value}, 'value')}")
    last = row.get("last_rollout")
    if last and last["outcome"] in ("failed", "rolled_back"):
        out(
            f"{paint('last'.ljust(9), 'dim', sys.stdout)} release {last['release']} {last['outcome'].replace('_', ' ')}"
        )
        for line in str(last["message"] or "").splitlines():
            out(f"          {cell({'line': line}, 'line')}")
    print_section([prepare_replica(one) for one in row.get("replicas_list", [])], REPLICAS)
    print_section([prepare_route(one) for one in row.get("routes", [])], ROUTES)


def prepare_replica(row: dict[str, Any]) -> dict[str, Any]:
    """Add the columns of a replica that are put together."""
    return row | {"age": age(row["started"]), "note": row["message"] or row["probe"]}


def print_section(rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
    """Print a table below the facts, if it has rows."""
    if rows:
        out("")
        print_table([[cell(row, key) for key in columns.values()] for row in rows], list(columns))


def prepare_route(row: dict[str, Any]) -> dict[str, Any]:
    """Add the columns of a route that are put together."""
    behind = [
        f"{one['address']} {one['weight']:g}%" if one["ready"] else f"{one['address']} draining"
        for one in row["upstreams"]
    ]
    host = row["host"] or "any host"
    preview = " (preview)" if row.get("group") == "preview" else ""
    return row | {"shown_host": host + preview, "shown_upstreams": ", ".join(behind) or "none: answers 503"}


def history(app: AppName, output: Output = "table") -> int:
    """Show an app's releases, newest first."""
    with Client(target()) as client:
        rows = client.get(app_path(app, "releases"))
    shown = [
        row
        | {
            "age": age(row["started"]),
            "took": "-" if row["duration_s"] is None else render_span(row["duration_s"]),
            "why": first_line(row),
        }
        for row in rows
    ]
    if output != "table":
        print_data(rows, output, name="release")
        return 0
    print_rows(shown, output, HISTORY, name="release", empty=f"{app} has no releases yet")
    if (last := last_missing({row["release"] for row in rows})) is not None:
        say(f"up to release {last} the history has only what is shown; older releases are not kept")
    if len(rows) > 1:
        say(f"back to an earlier one: oton rollback {app} --to N")
    return 0


def last_missing(numbers: set[int]) -> int | None:
    """Return the newest release below the newest of *numbers* that is not among them; None: all are there."""
    return next((number for number in range(max(numbers, default=0), 0, -1) if number not in numbers), None)


def first_line(row: dict[str, Any]) -> str:
    """Return why a release was made and, in a line, why it ended badly."""
    bad = row["outcome"] in ("failed", "rolled_back")
    message = str(row.get("message") or "").strip().splitlines()
    return " — ".join(part for part in (row["reason"], message[0] if bad and message else "") if part)
