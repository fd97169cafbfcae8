"""`oton token`: AppTokens, whose secret is shown once."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

import typer

from controller.cli.client import Client
from controller.cli.options import Output, group, read_duration, target, verb
from controller.cli.show import age, out, print_data, print_rows, say
from controller.cli.trouble import OK

app = group("AppTokens for the API.")
COLUMNS = {
    "NAME": "name",
    "SCOPE": "scope",
    "APPS": "apps",
    "HOSTS": "hosts",
    "STATE": "state",
    "CREATED": "created_ago",
    "LAST USED": "used_ago",
    "EXPIRES": "expires",
}
Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


@verb(app, "create", place=False)
def create(
    name: Name,
    scope: Annotated[Literal["read", "deploy", "admin"], typer.Option("--scope", help="What it may do.")] = "deploy",
    apps: Annotated[list[str] | None, typer.Option("--app", metavar="A", help="Only that app; repeatable.")] = None,
    hosts: Annotated[
        list[str] | None, typer.Option("--host", metavar="PATTERN", help="Hosts its specs may claim; repeatable.")
    ] = None,
    ttl: Annotated[str | None, typer.Option("--ttl", metavar="T", help="How long it is valid, such as 30d.")] = None,
    output: Output = "table",
) -> int:
    """Make a token; its secret is printed once. (Which service: `oton --host URL token create …`.)"""
    body = {
        "name": name,
        "scope": scope,
        "apps": apps or None,
        "hosts": hosts or [],
        "ttl_s": read_duration(ttl, "--ttl"),
    }
    with Client(target()) as client:
        made = client.post("/v1/tokens", body)
    if output == "table":
        out(made["secret"])
        say("this is the only time that it is shown; keep it as OTON_TOKEN")
    else:
        print_data(made, output, name="secret")
    return OK


@verb(app, "list")
def list_all(output: Output = "table") -> int:
    """List tokens, without their secrets."""
    with Client(target()) as client:
        rows = client.get("/v1/tokens")
    shown = [
        row
        | {
            "apps": row["apps"] if row["apps"] is not None else "all",
            "created_ago": age(row["created"]),
            "used_ago": age(row["last_used"]),
        }
        for row in rows
    ]
    empty = "no tokens; make one with: oton token create NAME"
    print_rows(shown if output == "table" else rows, output, COLUMNS, name="name", empty=empty)
    return OK


@verb(app, "revoke")
def revoke(name: Name) -> int:
    """End a token at once."""
    with Client(target()) as client:
        client.delete(f"/v1/tokens/{quote(name, safe='')}")
    out(f"{name}: revoked")
    return OK
