"""
The controller's end of its channel to the supervisor.

    <- {"roster": [worker numbers], "pids": {number: process}, "inspectors": {process: app}}
                                        on every change, and once at the start
    -> {"ready": true}                  the controller has begun to act
    -> {"kill": number}                 that worker owes its confirmation for too long, or cannot be understood
    -> {"kill_inspector": process}      that inspector cannot be understood
    -> {"certificates": {host: [chain, key]}}   what a worker shall be born with, while we are away too
    -> {"inspect": {app: wish}}         these apps shall have an inspector; another wish, another inspector

The channel's end is the supervisor's end, and with it ours.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from controller.wire.codec import Unreadable
from controller.wire.fields import as_list, as_object, as_text, as_whole
from controller.wire.lines import LineSocket

_TICK_S = 0.25
_DIGITS = 16

log = structlog.get_logger("control")


@dataclass(frozen=True, slots=True)
class Roster:
    """Who is alive, by the supervisor's word."""

    workers: frozenset[int]
    """Their numbers."""
    pids: Mapping[int, int] | None = None
    """Number -> process of those that are born; None: this supervisor does not tell."""
    inspectors: Mapping[int, str] | None = None
    """Process -> app that it inspects; None as above."""


def parse_roster(message: Mapping[str, Any]) -> Roster:
    """Read what the supervisor says of who is alive. Raises Unreadable."""
    pids, inspectors = message.get("pids"), message.get("inspectors")
    return Roster(
        frozenset(as_whole(number) for number in as_list(message["roster"])),
        None if pids is None else {_as_number(name): as_whole(pid) for name, pid in as_object(pids).items()},
        None if inspectors is None else {_as_number(pid): as_text(a) for pid, a in as_object(inspectors).items()},
    )


def _as_number(name: str) -> int:
    if not (name.isascii() and name.isdecimal() and len(name) < _DIGITS):
        raise Unreadable("expected a number as a name")
    return int(name)


class Control:
    """Tells *on_roster* every change, and calls *on_gone* once when the supervisor has ended."""

    def __init__(self, fd: int, *, on_roster: Callable[[Roster], None], on_gone: Callable[[], None]) -> None:
        os.set_inheritable(fd, False)
        self._line = LineSocket(socket.socket(fileno=fd))
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        """Held while a roster is handed on: an older one must never follow a newer one."""
        self._on_roster, self._on_gone = on_roster, on_gone

    def run(self, stop: threading.Event) -> None:
        """Listen until *stop* is set or the supervisor has gone, or says what cannot be understood."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._line, selectors.EVENT_READ)
            while not stop.is_set():
                selector.select(_TICK_S)
                self.catch_up()
                with self._lock:
                    self._line.flush()
                    more = selectors.EVENT_WRITE if self._line.pending_bytes else 0
                    selector.modify(self._line, selectors.EVENT_READ | more)
                if self._line.closed:
                    if self._line.fault:
                        log.error("the supervisor cannot be understood", why=self._line.fault)
                    self._on_gone()
                    return

    def catch_up(self) -> None:
        """Take what the supervisor has said so far; from any thread."""
        with self._reading:
            with self._lock:
                messages = self._line.receive()
            try:
                for message in messages:
                    if "roster" in message:
                        self._on_roster(parse_roster(message))
            except Unreadable as error:
                self._line.refuse(str(error))

    def ready(self) -> None:
        """Say that the controller acts now."""
        self._send({"ready": True})

    def kill(self, worker: int) -> None:
        """Have a worker killed and replaced."""
        self._send({"kill": worker})

    def kill_inspector(self, pid: int) -> None:
        """Have an inspector killed and replaced."""
        self._send({"kill_inspector": pid})

    def keep(self, certificates: Mapping[str, tuple[str, str]]) -> None:
        """Have every worker born with exactly these certificates."""
        self._send({"certificates": {host: list(pair) for host, pair in certificates.items()}})

    def inspect(self, wishes: Mapping[str, str]) -> None:
        """Have exactly these apps inspected; an inspector is replaced where its wish differs from before."""
        self._send({"inspect": dict(wishes)})

    def _send(self, message: dict[str, object]) -> None:
        with self._lock:
            self._line.send(message)
