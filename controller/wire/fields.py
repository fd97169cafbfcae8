"""
The values in a message: each is of the kind that its reader names, or the message is Unreadable.

A value that is merely odd would do its harm later, in somebody else's turn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from controller.wire.codec import Unreadable

WHOLE_MOST = 2**53
"""Largest number that counts as one: beyond it other readers of JSON round."""

TEXT_MOST = 1000
"""Longest text, in characters, where its reader names no other bound."""


def as_whole(value: object, *, least: int = 0, most: int = WHOLE_MOST) -> int:
    """Return *value* if it is a whole number within these bounds."""
    if type(value) is int and least <= value <= most:
        return value
    raise Unreadable(f"expected a whole number from {least} to {most}")


def as_number(value: object, *, most: float = WHOLE_MOST) -> float:
    """Return *value* if it is a finite number that is not negative."""
    if type(value) in (int, float) and 0 <= value <= most and math.isfinite(value):  # type: ignore[operator,arg-type]
        return value  # type: ignore[return-value]
    raise Unreadable(f"expected a number from 0 to {most:g}")


def as_text(value: object, *, most: int = TEXT_MOST) -> str:
    """Return *value* if it is text of at most *most* characters."""
    if isinstance(value, str) and len(value) <= most:
        return value
    raise Unreadable(f"expected a text of at most {most} characters")


def as_object(value: object) -> Mapping[str, Any]:
    """Return *value* if it is an object."""
    if isinstance(value, dict):
        return value
    raise Unreadable("expected an object")


def as_list(value: object, *, most: int | None = None) -> list[Any]:
    """Return *value* if it is a list of at most *most* entries."""
    if isinstance(value, list) and (most is None or len(value) <= most):
        return value
    raise Unreadable("expected a list" if most is None else f"expected a list of at most {most}")


def said(value: object, *, most: int = TEXT_MOST) -> str:
    """Return what somebody says for people to read: one printable line, cut at *most* characters."""
    text = value if isinstance(value, str) else ""
    line = "".join(letter if letter.isprintable() else " " for letter in text[:most])
    return line if len(text) <= most else f"{line} …"
