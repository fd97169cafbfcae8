"""`oton cert`: certificates of the public side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from controller.cli.client import Client
from controller.cli.options import Output, group, target, verb
from controller.cli.show import out, print_data, print_rows
from controller.cli.trouble import OK, USAGE, Trouble

app = group("Certificates of the public side.")
COLUMNS = {"HOST": "host", "NAMES": "names", "EXPIRES": "expires", "ISSUER": "issuer", "PROBLEM": "problem"}
Host = Annotated[str, typer.Argument(metavar="HOST", show_default=False)]


@verb(app, "add")
def add(
    name: Host,
    cert: Annotated[Path, typer.Option("--cert", metavar="F", help="PEM: its certificate, then the chain.")],
    key: Annotated[Path, typer.Option("--key", metavar="F", help="PEM: its key, without a password.")],
    output: Output = "table",
) -> int:
    """Put a certificate in force at once; a bad one is refused, and the one in force stays."""
    body = {"host": name.lower(), "cert": _read(cert, "--cert"), "key": _read(key, "--key")}
    with Client(target()) as client:
        added = client.post("/v1/certs", body)
    if output == "table":
        out(f"{added['host']}: in force, expires {added['expires']}")
    else:
        print_data(added, output, name="host")
    return OK


@verb(app, "list")
def list_all(output: Output = "table") -> int:
    """List certificates: names and expiry."""
    with Client(target()) as client:
        rows = client.get("/v1/certs")
    shown = [row | {"names": ", ".join(row["names"])} for row in rows] if output == "table" else rows
    empty = "no certificates; add one with: oton cert add HOST --cert F --key F"
    print_rows(shown, output, COLUMNS, name="host", empty=empty)
    return OK


@verb(app, "rm")
def remove(name: Host) -> int:
    """Take a certificate out of force; open connections go on."""
    with Client(target()) as client:
        client.delete(f"/v1/certs/{quote(name.lower(), safe='')}")
    out(f"{name}: removed")
    return OK


def _read(place: Path, flag: str) -> str:
    try:
        return place.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a text file; PEM is wanted"
        raise Trouble(USAGE, f"{flag}: {place} cannot be read: {why}") from None
