"""
The way from the lane through an app's inspector: a Unix socket that is there exactly while the inspector serves.

The lane picks the replica, counts it, drains it and retries; the inspector is told which one it is, and answers
by a word of its own where that replica gives no answer.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.proxy.limits import Limits
from controller.proxy.link import Link
from controller.proxy.pool import Pool
from controller.proxy.replies import Answer, AnswerReader
from controller.proxy.turns import Turns
from controller.routing.access import UPSTREAM
from controller.routing.table import Upstream

FOLDER = Path("inspect")
"""Below state/proxy, which is the working directory of workers; in it each app's inspector owns a folder."""

INSPECTOR_SOCKET = "in.sock"
"""Name in that folder, which is the working directory of the app's inspector."""

TROUBLE = b"x-oton-trouble"
"""Header of an inspector's answer that is no replica's: "connect WHY", "broken WHY", "request WHY" or "killed"."""

_TELL_S = 5.0
"""A worker reports no oftener than this that an app's inspector is missed."""


def socket_of(app: str) -> Path:
    """Return where the app's inspector listens."""
    return FOLDER / app / INSPECTOR_SOCKET


def meet_inspector(app: str) -> socket.socket:
    """
    Return a connection to the app's inspector. Raises OSError.

    The folder is the inspector's own: a link in it could lead us to any socket that we may open and it may not.
    """
    place = os.open(socket_of(app), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.connect(f"/proc/self/fd/{place}")
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(place)
    return sock


class Detour(Pool):
    """Connections to one app's inspector."""

    __slots__ = ("_app", "_report", "_told")

    def __init__(
        self,
        app: str,
        limits: Limits,
        reader: AnswerReader,
        warm: set[Pool],
        turns: Turns,
        report: Callable[[dict[str, Any]], None],
    ) -> None:
        super().__init__(Upstream(id=f"inspector of {app}", address="", port=0, release=0), limits, reader, warm, turns)
        self._app = app
        self._report = report
        self._told = -_TELL_S

    async def _open(self, link: Link) -> None:
        await asyncio.sleep(0)  # whoever connects must have the link in hand before it can be refused
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=meet_inspector(self._app))

    def address(self, head: bytes, upstream: Upstream) -> bytes:
        """Return a request's head with the replica named in it."""
        line, _, rest = head.partition(b"\r\n")
        host = f"[{upstream.address}]" if ":" in upstream.address else upstream.address
        return b"%b\r\n%b: %b:%d\r\n%b" % (line, UPSTREAM, host.encode(), upstream.port, rest)

    def tell_missed(self, why: str, now: float, *, required: bool) -> None:
        """Report that the inspector was not there for a request."""
        if now - self._told < _TELL_S:
            return
        self._told = now
        self._report({"kind": "limit", "app": self._app, "what": "inspector", "why": why, "required": required})


def find_trouble(answer: Answer) -> str:
    """Return what an inspector says of a request that no replica answered; "" where this is a replica's answer."""
    for line in answer.lines:
        name, _, value = line.partition(b":")
        if name.lower() == TROUBLE:
            return value.strip().decode("latin-1")
    return ""
