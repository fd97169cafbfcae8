"""`oton context`: named servers for this command, kept in the user's own configuration."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from controller.cli.options import Output, group, verb
from controller.cli.show import out, print_rows, say
from controller.cli.target import contexts_file, load_contexts, parse_host
from controller.cli.trouble import MISSING, OK, USAGE, Trouble
from controller.cli.trust import check_ca

app = group("Named servers for this command.")
COLUMNS = {"": "mark", "NAME": "name", "HOST": "host", "TOKEN": "token"}
Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


@verb(app, "add")
def add(
    name: Name,
    url: Annotated[str, typer.Argument(metavar="HOST", help="unix:///path, https://host, ssh://user@host.")],
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="F", help="Keep the token in that file with it.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", metavar="F", help="The authority that signs the server's certificate.")
    ] = None,
) -> int:
    """Name a server; the first one is used at once."""
    token = read_token(token_file) if token_file is not None else ""
    parse_host(url, token, f"context {name}")
    if ca is not None:
        check_ca(ca)
    found = load_contexts(os.environ)
    entry = {"host": url} | ({"token": token} if token else {}) | ({"ca": str(ca.absolute())} if ca is not None else {})
    contexts = {**found.get("contexts", {}), name: entry}
    save({"current": found.get("current") or name, "contexts": contexts})
    out(name)
    return OK


def read_token(path: Path) -> str:
    """Return the token in a file."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(USAGE, f"{path}: cannot be read: {error}") from error
    if not text.startswith("oton_"):
        raise Trouble(USAGE, f"{path}: holds no token (oton_…)")
    return text


@verb(app, "use")
def use(name: Name) -> int:
    """Talk to that server from now on; `-` for none."""
    found = load_contexts(os.environ)
    if name != "-" and name not in found.get("contexts", {}):
        known = ", ".join(sorted(found.get("contexts", {}))) or "none"
        raise Trouble(MISSING, f"context {name}: not known; known: {known}")
    save({"current": None if name == "-" else name, "contexts": found.get("contexts", {})})
    say(f"talking to {'the usual socket' if name == '-' else name} from now on")
    return OK


@verb(app, "list")
def list_all(output: Output = "table") -> int:
    """List the named servers."""
    found = load_contexts(os.environ)
    rows = [
        {
            "name": name,
            "host": entry["host"],
            "token": bool(entry.get("token")),
            "current": name == found.get("current"),
        }
        for name, entry in sorted(found.get("contexts", {}).items())
    ]
    shown = [row | {"mark": "*" if row["current"] else " "} for row in rows]
    empty = "no contexts; name one with: oton context add NAME HOST"
    print_rows(shown if output == "table" else rows, output, COLUMNS, name="name", empty=empty)
    return OK


@verb(app, "rm")
def remove(name: Name) -> int:
    """Forget a named server."""
    found = load_contexts(os.environ)
    contexts = dict(found.get("contexts", {}))
    if contexts.pop(name, None) is None:
        raise Trouble(MISSING, f"context {name}: not known")
    save({"current": None if found.get("current") == name else found.get("current"), "contexts": contexts})
    return OK


def save(value: dict[str, Any]) -> None:
    """Write the file whole, for its owner alone: it may hold tokens."""
    path = contexts_file(os.environ)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".contexts-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)
