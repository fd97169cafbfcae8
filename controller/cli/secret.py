"""`oton secret`: an app's secrets; a value goes in on stdin and never comes out again."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from controller.cli.client import Client, app_path
from controller.cli.options import AppName, Output, group, target, verb
from controller.cli.show import age, out, print_rows, say
from controller.cli.trouble import OK, USAGE, Trouble

app = group("Secrets of an app: encrypted at rest, never printed back.")
COLUMNS = {"NAME": "name", "VERSION": "version", "SET": "set_ago", "BY": "by"}
Key = Annotated[str, typer.Argument(metavar="KEY", show_default=False)]


@verb(app, "set")
def set_one(name: AppName, key: Key) -> int:
    """Set a secret to what comes on stdin; a changed one makes a new release of an app that uses it."""
    value = read_value(key)
    with Client(target()) as client:
        made = client.put_json(app_path(name, "secrets", key), {"value": value})
    out(f"{key}: version {made['version']}")
    return OK


def read_value(key: str) -> str:
    """Return what comes on stdin, without the line break at its end; a terminal is asked without echo."""
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass(f"value of {key}: ")
    data = sys.stdin.buffer.read()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Trouble(USAGE, f"{key}: found bytes that are not text, allowed: UTF-8") from None
    value = text.removesuffix("\n").removesuffix("\r")
    if not value:
        raise Trouble(USAGE, f"{key}: stdin was empty", hint="printf %s VALUE | oton secret set APP KEY")
    return value


@verb(app, "list")
def list_all(name: AppName, output: Output = "table") -> int:
    """List an app's secrets, without their values."""
    with Client(target()) as client:
        rows = client.get(app_path(name, "secrets"))
    shown = [row | {"set_ago": age(row["set"])} for row in rows]
    empty = f"{name} has no secrets; set one with: oton secret set {name} KEY"
    print_rows(shown if output == "table" else rows, output, COLUMNS, name="name", empty=empty)
    return OK


@verb(app, "rm")
def remove(name: AppName, key: Key) -> int:
    """Forget a secret; what runs keeps it until it is replaced."""
    with Client(target()) as client:
        client.delete(app_path(name, "secrets", key))
    say(f"{key}: removed")
    return OK


@verb(app, "rotate-key")
def rotate_key() -> int:
    """Encrypt all secrets of all apps with a new key; nothing is replaced by it."""
    with Client(target()) as client:
        made = client.post("/v1/secrets/rotate-key")
    out(f"the key is {made['key']} now")
    return OK
