"""
What the controller, a nursery, a worker or an inspector may say to the supervisor, as values.

Whoever says what cannot be understood is ended and replaced: a worker faces the public, an inspector runs people's
programs, and neither may take the supervisor with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from controller.wire.codec import Unreadable
from controller.wire.fields import as_list, as_object, as_text, as_whole, said

CHILD_LINE_BYTES = 256 * 1024
"""Longest line of a worker: what faces the public must not be able to fill the memory of who does not."""

INSPECTOR_LINE_BYTES = 64 * 1024
"""Longest line of an inspector."""

NURSERY_LINE_BYTES = 64 * 1024
"""Longest line of a nursery, whichever way."""

_EVENT_MOST = 8000
"""Longest text that a worker may have logged: a traceback fits."""

_PEM_MOST = 1024 * 1024
_PID_MOST = 2**22
"""Largest process number that Linux gives."""

_APP = re.compile(r"[a-z][a-z0-9-]{0,39}")
"""An app's name: it becomes part of a path."""

Level = Literal["debug", "info", "warning", "error", "critical"]
_LEVELS = frozenset(("debug", "info", "warning", "error", "critical"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FromController:
    """What one message of the controller says."""

    ready: bool = False
    certificates: Mapping[str, tuple[str, str]] | None = None
    wishes: Mapping[str, str] | None = None
    kill: int | None = None
    """The number of a worker."""
    kill_inspector: int | None = None
    """The number of an inspector's process."""


def parse_controller(message: Mapping[str, Any]) -> FromController:
    """Read a message of the controller. Raises Unreadable."""
    certificates, wishes = message.get("certificates"), message.get("inspect")
    return FromController(
        ready="ready" in message,
        certificates=None if certificates is None else _parse_certificates(certificates),
        wishes=None if wishes is None else {_as_app(app): as_text(wish) for app, wish in as_object(wishes).items()},
        kill=as_whole(message["kill"]) if "kill" in message else None,
        kill_inspector=_as_pid(message["kill_inspector"]) if "kill_inspector" in message else None,
    )


@dataclass(frozen=True, slots=True)
class FromChild:
    """What one message of a worker or an inspector says."""

    accepting: bool = False
    level: Level | None = None
    event: str = ""


def parse_child(message: Mapping[str, Any]) -> FromChild:
    """Read a message of a worker or an inspector. Raises Unreadable."""
    if "log" not in message:
        return FromChild(accepting="accepting" in message)
    level = as_text(message["log"])
    # An unknown level of a neighbouring version is one to be read; it never names a method of ours.
    known = cast("Level", level if level in _LEVELS else "info")
    return FromChild(level=known, event=said(message.get("event"), most=_EVENT_MOST))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A nursery can fork."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A nursery cannot do its work."""

    why: str


@dataclass(frozen=True, slots=True)
class Born:
    """A child was forked."""

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class Stillborn:
    """A child could not be forked."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class Died:
    """A child has ended."""

    pid: int
    status: str


FromNursery = Loaded | Failed | Born | Stillborn | Died


def parse_nursery(message: Mapping[str, Any]) -> FromNursery | None:
    """Read a message of a nursery; None for one that this version does not know. Raises Unreadable."""
    match message:
        case {"ready": _}:
            return Loaded()
        case {"failed": why}:
            return Failed(said(why))
        case {"born": number, "pid": pid}:
            return Born(as_whole(number), _as_pid(pid))
        case {"stillborn": number, "why": why}:
            return Stillborn(as_whole(number), said(why))
        case {"died": pid, "status": status}:
            return Died(_as_pid(pid), said(status))
    return None


def _as_pid(value: object) -> int:
    # Never 0, 1 or negative: a signal to those would reach others.
    return as_whole(value, least=2, most=_PID_MOST)


def _as_app(name: str) -> str:
    if not _APP.fullmatch(name):
        raise Unreadable("expected the name of an app")
    return name


def _parse_certificates(raw: object) -> dict[str, tuple[str, str]]:
    return {as_text(host): _parse_pair(pair) for host, pair in as_object(raw).items()}


def _parse_pair(raw: object) -> tuple[str, str]:
    match as_list(raw):
        case [chain, key]:
            return as_text(chain, most=_PEM_MOST), as_text(key, most=_PEM_MOST)
    raise Unreadable("expected a certificate chain and its key")
