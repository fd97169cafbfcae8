"""`oton dial-stdio`: the far end of ssh; carries bytes between stdin, stdout and the service's socket."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from controller.cli import dial
from controller.cli.options import target
from controller.cli.trouble import OK, UNREACHABLE, USAGE, Trouble

CHUNK = 65536
CONNECT_S = 5.0


def dial_stdio(
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="F", help="Speak with that file's AppToken, and no other.")
    ] = None,
) -> int:
    """Connect standard input and output to the service; `ssh://` runs this at the other end."""
    token = read_token(token_file) if token_file is not None else None
    place = target()
    if place.kind != "unix":
        raise Trouble(USAGE, f"dial-stdio: found {place.place}, allowed: a Unix socket on this machine")
    try:
        sock = dial.open_socket(place, CONNECT_S)
    except OSError as error:
        raise Trouble(UNREACHABLE, f"no service answers at {place.place}: {error.strerror}") from error
    if token is not None:
        # The service gives every request of this connection that token's rights, whatever the client sends.
        sock.sendall(f"OTON-TOKEN {token}\n".encode())
    carry(sock, 0, 1)
    return OK


def read_token(path: Path) -> str:
    """Return the token in a file. Raises Trouble where there is none."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(USAGE, f"{path}: cannot be read: {error}") from error
    if not text.startswith("oton_") or not text.isprintable() or " " in text:
        raise Trouble(USAGE, f"{path}: holds no token (oton_…)")
    return text


def carry(sock: socket.socket, source: int, sink: int) -> None:
    """Carry bytes both ways until the service hangs up; the end of *source* is passed on."""

    def upward() -> None:
        with suppress(OSError):
            while data := os.read(source, CHUNK):
                sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

    threading.Thread(target=upward, name="dial-stdio up", daemon=True).start()
    with suppress(OSError):
        while data := sock.recv(CHUNK):
            write_all(sink, data)
    sock.close()


def write_all(sink: int, data: bytes) -> None:
    """Write all of *data*."""
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]
