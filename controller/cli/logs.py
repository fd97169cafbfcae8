"""`oton logs` and `oton events`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer

from controller.cli.client import Client, app_path
from controller.cli.options import AppName, Form, Output, read_duration, target
from controller.cli.pipes import end_with_reader
from controller.cli.show import out, paint, plain, print_data, print_line
from controller.cli.trouble import INTERRUPTED, OK, UNREACHABLE, USAGE, Trouble

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as more comes.")]
AWAY_S = 60.0
COLOURS = ("36", "32", "35", "34", "33", "96")


def logs(
    app: AppName,
    follow: Follow = False,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", min=0, help="How many past lines.")] = 100,
    since: Annotated[
        str | None, typer.Option("--since", metavar="T", help="Only from then on: 10m, or 2026-01-31T12:00:00Z.")
    ] = None,
    release: Annotated[int | None, typer.Option("--release", metavar="N", min=1, help="Only that release.")] = None,
    output: Output = "table",
) -> int:
    """Show the logs of all replicas, each line with its replica in front."""
    query = {"follow": follow, "lines": lines, "since": read_since(since), "release": release}
    if follow:
        end_with_reader()
    with Client(target()) as client:
        try:
            show_logs(client, app, query, output)
        except KeyboardInterrupt:
            return OK if follow else INTERRUPTED
    return OK


def show_logs(client: Client, app: str, query: dict[str, Any], output: Form) -> None:
    """Print log lines as they come."""
    shades: dict[str, str] = {}
    with client.stream(app_path(app, "logs"), **query) as response:
        for text in response.iter_lines():
            if not text:
                continue
            line = json.loads(text)
            if output == "table":
                print_log(line, shades)
            else:
                print_line(line, output, name="text")


def print_log(line: dict[str, Any], shades: dict[str, str]) -> None:
    """Print one line with its replica in front."""
    name = line["replica"]
    shade = shades.setdefault(name, COLOURS[len(shades) % len(COLOURS)])
    lead = f"\x1b[{shade}m{name}\x1b[0m" if paint("", "dim", sys.stdout) else name
    # On a terminal, an app's own control characters would drive it; a file gets the line as it was.
    out(f"{lead} | {plain(line['text']) if sys.stdout.isatty() else line['text']}")


def read_since(text: str | None) -> float | None:
    """Return Unix seconds for a span back from now, or for a moment."""
    if text is None:
        return None
    if text[:4].isdigit() and "-" in text:
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            raise Trouble(USAGE, f'--since: found "{text[:40]}", allowed: 10m, or 2026-01-31T12:00:00Z') from None
    span = read_duration(text, "--since")
    return None if span is None else time.time() - span


def events(
    app: Annotated[str | None, typer.Argument(metavar="[APP]", show_default=False)] = None,
    follow: Follow = False,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", min=0, max=1000, help="How many past ones.")] = 50,
    output: Output = "table",
) -> int:
    """Show what the controller saw, decided and did."""
    with Client(target()) as client:
        if not follow:
            rows = client.get("/v1/events", follow=False, limit=max(1, lines), app=app)
            if output == "table":
                for row in rows:
                    print_event(row)
            else:
                print_data(rows, output, name="id")
            return OK
        end_with_reader()
        try:
            for row in follow_events(client, app, lines):
                print_event(row) if output == "table" else print_line(row, output, name="id")
        except KeyboardInterrupt:
            return OK
    return OK


def print_event(row: dict[str, Any]) -> None:
    """Print one event."""
    mood = {"error": "red", "warning": "yellow"}.get(row["level"])
    moment = paint(str(row["time"])[:19].replace("T", " "), "dim", sys.stdout)
    out(f"{moment}  {row['app'] or '-'}  {paint(plain(row['text']), mood, sys.stdout)}")


def follow_events(client: Client, app: str | None, lines: int) -> Iterator[dict[str, Any]]:
    """Yield events as they come; after a dropped connection it goes on behind the last one seen."""
    last: int | None = None
    away_since: float | None = None
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(last)} if last is not None else {})
        try:
            with client.stream("/v1/events", headers, app=app, limit=lines) as response:
                away_since = None
                for row in read_sse(response.iter_lines()):
                    last = row["id"]
                    yield row
        except Trouble as trouble:
            now = time.monotonic()
            away_since = now if away_since is None else away_since
            if trouble.code != UNREACHABLE or last is None or now - away_since > AWAY_S:
                raise
        if last is None:
            return
        time.sleep(0.5)


def read_sse(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Yield the data of Server-Sent Events."""
    for line in lines:
        if line.startswith("data:"):
            yield dict(json.loads(line.removeprefix("data:")))
