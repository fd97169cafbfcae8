"""What systemd wants to hear: sd_notify, in its own few lines."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

_PATIENCE_S = 0.5
"""A systemd that does not read must not stop us."""


class Notifier:
    """Tells systemd how we are; says nothing where nobody asked."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        usec, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        wanted = usec.isdigit() and int(usec) > 0 and pid in ("", str(os.getpid()))
        self.every_s: float | None = int(usec) / 2e6 if wanted else None
        """Seconds between two signs of life that the watchdog wants; None: it wants none."""
        self._next = 0.0

    def tell(self, *lines: str) -> None:
        """Send *lines*, such as READY=1."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_PATIENCE_S)
            sock.sendto("\n".join(lines).encode(), address)

    def reloading(self) -> None:
        """Say that a reload has begun; READY=1 ends it."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self, now: float) -> None:
        """Give the watchdog a sign of life when one is due; the loop itself calls this."""
        if self.every_s is not None and now >= self._next:
            self._next = now + self.every_s
            self.tell("WATCHDOG=1")
