"""`oton routes`, `oton doctor`, `oton version`: the service as a whole."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from controller import __version__
from controller.cli.client import Client
from controller.cli.options import Output, target
from controller.cli.show import cell, out, print_data, print_rows
from controller.cli.status import ROUTES, prepare_route
from controller.cli.trouble import OK, UNREACHABLE, USAGE, Trouble

ALL_ROUTES = {"HOST": "shown_host", "PATH": "path", "APP": "app"} | {
    title: key for title, key in ROUTES.items() if title not in ("HOST", "PATH")
}
FINDINGS = {"STATE": "state", "CHECK": "check", "FINDING": "text", "MEND": "mend"}


def routes(
    explain: Annotated[
        list[str] | None, typer.Argument(metavar="[explain URL]", help="Say what a URL would get, and why.")
    ] = None,
    output: Output = "table",
) -> int:
    """Show the table of routes; with `explain URL`: which rule, release and replica it would get, and why."""
    match explain or []:
        case []:
            with Client(target()) as client:
                rows = client.get("/v1/routes")
            if output == "table":
                print_rows([prepare_route(row) for row in rows], output, ALL_ROUTES, name="host", empty="no routes")
            else:
                print_data(rows, output, name="host")
        case ["explain", url]:
            with Client(target()) as client:
                row = client.get("/v1/routes/explain", url=url)
            print_explained(row) if output == "table" else print_data(row, output)
        case words:
            raise Trouble(USAGE, f'routes: found "{" ".join(words)[:60]}", allowed: nothing, or explain URL')
    return OK


def print_explained(row: dict[str, Any]) -> None:
    """Say what a URL would get."""
    out(f"{row['host']}{row['path']}")
    if not row["found"]:
        out(f"  {row['why']}: the answer is {row['answer']}")
        return
    out(f"  rule: {row['why']}")
    out(f"  {_owner(row)}: {row['answer']}")
    for one in row["upstreams"]:
        release = f"  release {one['release']}" if one["release"] else ""
        out(f"  {cell(one, 'address')}  {one['weight']:g}%{release}")


def _owner(row: dict[str, Any]) -> str:
    fixed = row["app"].removeprefix("fixed:")
    if fixed != row["app"]:
        return f"fixed route {fixed}"
    return f"app {row['app']}, " + (f"release {row['release']}" if row["release"] else "no release that serves")


def doctor(output: Output = "table") -> int:
    """Show what is wrong on the service's machine, and how to fix it."""
    with Client(target()) as client:
        rows = client.get("/v1/doctor")
    if output == "table":
        print_rows(rows, output, FINDINGS, name="check")
    else:
        print_data(rows, output, name="check")
    return OK


def version(output: Output = "table") -> int:
    """Show the version of this program and, where one answers, of the service."""
    found: dict[str, Any] = {"client": __version__, "service": None, "api": None}
    try:
        with Client(target()) as client:
            answer = client.get("/v1/version")
        found |= {"service": answer["version"], "api": answer["api"]}
    except Trouble as trouble:
        if trouble.code != UNREACHABLE:
            raise
    if output == "table":
        out(f"oton {found['client']}, service {found['service'] or 'not reachable'}")
    else:
        print_data(found, output, name="client")
    return OK
