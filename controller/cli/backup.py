"""`oton backup` and `oton restore`: the service's memory as one file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from controller.cli.client import Client
from controller.cli.options import target
from controller.cli.show import out, say
from controller.cli.trouble import FAILED, OK, USAGE, Trouble

PIECE_BYTES = 1024**2
COMES_BACK_S = 90.0
"""How long a service that restores may take to answer again."""
File = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]


def backup(file: File) -> int:
    """Write database and state of the service to FILE, while it runs. FILE holds its keys: keep it as one."""
    part = file.with_name(f".{file.name}.part")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with (
            os.fdopen(descriptor, "wb") as target_file,
            Client(target()) as client,
            client.stream("/v1/backup") as answer,
        ):
            for piece in answer.iter_bytes(PIECE_BYTES):
                target_file.write(piece)
            target_file.flush()
            os.fsync(descriptor)
        part.replace(file)
    except OSError as error:
        raise Trouble(USAGE, f"{file}: cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    say(f"{file} contains the keys to this service's secrets: protect it accordingly")
    out(f"{file}: {file.stat().st_size} bytes")
    return OK


def restore(
    file: File,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Into OTON_STATE and DB_PATH of this machine, while no service runs.")
    ] = False,
) -> int:
    """Put the backup FILE in place. The controller restarts; containers and traffic go on meanwhile."""
    if not file.is_file():
        raise Trouble(USAGE, f"{file}: there is no such file")
    if not yes:
        confirm(file)
    if offline:
        return restore_offline(file)
    with Client(target()) as client:
        staged = client.post_file("/v1/restore", pieces(file), file.stat().st_size)
        say("the backup is valid; the controller is restarting with it")
        last = wait_restored(client, staged["mark"])
    out(f"restored the backup saved at {last['saved']}: {len(last['apps'])} apps")
    return OK


def restore_offline(file: Path) -> int:
    """Put the backup in place where a service cannot start any more to do it itself."""
    from controller.archive import Place, apply_staged, stage
    from controller.errors import ControllerError
    from controller.lock import Lock
    from controller.settings import load_instance, load_settings

    try:
        settings = load_settings()
        instance = load_instance(settings.state)
        lock = Lock.take(settings.state)
        try:
            place = Place(state=settings.state, database=settings.db_path, instance=instance, version="")
            stage(place, file, has_apps=False)
            last = apply_staged(settings.state, settings.db_path) or {}
        finally:
            lock.release()
    except ControllerError as error:
        raise Trouble(USAGE, str(error)) from None
    out(f"restored the backup saved at {last['saved']}: {len(last['apps'])} apps; start the service with: oton serve")
    return OK


def confirm(file: Path) -> None:
    """Ask before the service's memory is replaced. Raises Trouble where nobody can be asked, or the answer is no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Trouble(USAGE, "restore: needs -y: not a terminal", hint=f"oton restore {file} -y")
    sys.stderr.write("this replaces history, tokens and secrets of the service; type yes to continue: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != "yes":
        raise Trouble(USAGE, "restore: cancelled, nothing was changed")


def pieces(file: Path) -> Iterator[bytes]:
    """Yield the file, a piece at a time."""
    with file.open("rb") as source:
        while piece := source.read(PIECE_BYTES):
            yield piece


def wait_restored(client: Client, mark: str) -> Any:
    """Wait until the service answers with what was restored."""
    until = time.monotonic() + COMES_BACK_S
    while time.monotonic() < until:
        time.sleep(0.3)
        with suppress(Trouble):
            last = client.get("/v1/restore")
            if last.get("mark") == mark:
                return last
    raise Trouble(FAILED, "the service did not come back with the backup; see its log")
