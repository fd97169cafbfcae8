"""`oton capture`: an inspected app's requests as a HAR file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from controller.cli.client import Client, app_path
from controller.cli.options import AppName, read_duration, target
from controller.cli.show import out, say
from controller.cli.trouble import FAILED, OK, USAGE, Trouble

PIECE_BYTES = 64 * 1024


def capture(
    app: AppName,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to, such as x.har.")],
    span: Annotated[str, typer.Option("--for", metavar="T", help="How long.")] = "60s",
    wanted: Annotated[
        str, typer.Option("--filter", metavar="EXPR", help='Which requests, as mitmproxy has it: "~u /api & ~m POST".')
    ] = "",
) -> int:
    """Record an inspected app's requests (proxy.inspect: true), credentials masked. Nothing is restarted."""
    seconds = read_duration(span, "--for")
    part = output.with_name(f".{output.name}.part")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file, Client(target()) as client:
            query: dict[str, Any] = {"for": seconds, "filter": wanted}
            with client.stream(app_path(app, "capture"), **query) as answer:
                say(f"recording {app} for {span}")
                for piece in answer.iter_bytes(PIECE_BYTES):
                    file.write(piece)
        recorded = read_log(part, app)
        part.replace(output)
    except OSError as error:
        raise Trouble(USAGE, f"{output}: cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    say(str(recorded["comment"]))
    out(f"{output}: {len(recorded['entries'])} requests")
    return OK


def read_log(file: Path, app: str) -> dict[str, list[object]]:
    """Return what was recorded. Raises Trouble where it is not whole."""
    try:
        log: dict[str, list[object]] = json.loads(file.read_bytes())["log"]
    except ValueError as error:
        raise Trouble(FAILED, f"{app}: the service ended before the capture did") from error
    return log
