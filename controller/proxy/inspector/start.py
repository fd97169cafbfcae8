"""The first moments of an inspector: it gives its rights away before it imports anything that could misuse them."""

from __future__ import annotations

import os
import signal
import socket

from controller.kernel import name_process
from controller.proxy.birth import become, parse_birth


def start_inspector(argument: str, number: int, app: str) -> int:
    """Become the app's inspector; *argument* is a rendered Birth with a user that nobody else is."""
    birth = parse_birth(argument)
    name_process(f"oton-inspect-{app}")
    for one in (signal.SIGINT, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)  # a terminal sends these to all of us; the supervisor decides
    os.set_inheritable(birth.control, False)
    os.fchdir(birth.folder)
    become(birth)
    from controller.proxy.inspector.serve import serve_inspector  # noqa: PLC0415 - only after the rights are gone

    serve_inspector(birth, number, app, socket.socket(fileno=birth.control))
    return 0
