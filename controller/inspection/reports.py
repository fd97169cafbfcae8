"""What an inspector may say, as values. It runs people's programs: whatever else it says ends it and nobody else."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.wire.codec import Unreadable
from controller.wire.fields import as_list, as_object, as_text, as_whole, said

LINE_BYTES = 4 * 1024 * 1024
"""Longest line of an inspector: one recorded request."""

_NAME_MOST = 80
_WHY_MOST = 500
_ADDONS_MOST = 1000


@dataclass(frozen=True, slots=True)
class Hello:
    """An inspector registers."""

    app: str


@dataclass(frozen=True, slots=True)
class Captured:
    """Something about a capture: that it began or why not, an entry, or that no more has room."""

    number: int
    news: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trouble:
    """An addon raised."""

    addon: str
    error: str


@dataclass(frozen=True, slots=True)
class Exhausted:
    """It has used up its memory, and ends."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Ready:
    """It serves, with these addons."""

    addons: tuple[str, ...]


Report = Hello | Captured | Trouble | Exhausted | Ready


def parse_report(message: Mapping[str, Any]) -> Report | None:
    """Read an inspector's message; None for one that this version does not know. Raises Unreadable."""
    match message:
        case {"hello": hello}:
            return Hello(as_text(as_object(hello).get("app"), most=_NAME_MOST))
        case {"captured": number}:
            return Captured(as_whole(number), _parse_news(message))
        case {"trouble": addon}:
            return Trouble(said(addon, most=_NAME_MOST), said(message.get("error"), most=_WHY_MOST))
        case {"exhausted": size}:
            return Exhausted(as_whole(size))
        case {"ready": addons}:
            return Ready(tuple(said(name, most=_NAME_MOST) for name in as_list(addons, most=_ADDONS_MOST)))
    return None


def _parse_news(message: Mapping[str, Any]) -> dict[str, Any]:
    if "entry" in message:
        return {"entry": _check_entry(as_object(message["entry"]))}
    if "refused" in message:
        return {"refused": said(message["refused"], most=_WHY_MOST)}
    return {"began": True} if "began" in message else {"full": True}


def _check_entry(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an entry of a HAR file if what is masked in it is where we look for it."""
    content = as_object(as_object(entry.get("response", {})).get("content", {}))
    if content.get("encoding") == "base64":
        try:
            base64.b64decode(as_text(content.get("text"), most=LINE_BYTES), validate=True)
        except (binascii.Error, ValueError) as error:
            raise Unreadable("a recorded body that is not base64") from error
    return entry
