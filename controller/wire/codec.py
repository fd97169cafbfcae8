"""One message as one line of JSON, and what a line may be before it is believed to be one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

DEPTH_MOST = 32
"""Deepest nesting of a message; a route table has nine levels, a recorded request eight."""

_BRACKETS = bytes.maketrans(b"{}", b"[]")
_ALL_BUT_MARKS = bytes(sorted(set(range(256)) - set(b'[]{}"')))
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_STRING = re.compile(rb'"[^"]*"?')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Unreadable(ValueError):
    """What was sent is no message of ours; says in one line why, without quoting it."""


def render_line(message: Mapping[str, Any]) -> bytes:
    """Return *message* as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def parse_line(line: bytes) -> dict[str, Any]:
    """
    Return the message that *line* is; of a key that stands in it twice, the last one counts.

    Raises Unreadable, and nothing else, whatever the bytes are.
    """
    if not is_shallow(line):
        raise Unreadable(f"nested deeper than {DEPTH_MOST} levels, or torn")
    try:
        message = json.loads(line.decode(), parse_constant=_refuse_constant)
        if _SURROGATE.search(line):
            json.dumps(message, ensure_ascii=False).encode()  # half a character could be neither logged nor stored
    except UnicodeError as error:
        raise Unreadable("not UTF-8") from error
    except ValueError as error:  # a number of thousands of digits is one, too
        raise Unreadable("not JSON") from error
    if not isinstance(message, dict):
        raise Unreadable("not a JSON object")
    return message


def is_shallow(line: bytes, most: int = DEPTH_MOST) -> bool:
    """
    Say whether JSON is nested at most *most* levels deep, and as often closed as opened; linear in its length.

    Asked before anything is parsed: the parser itself recurses, and so does whoever prints what it returns.
    """
    if line.count(b"[") + line.count(b"{") <= most:
        return True
    plain = _ESCAPED.sub(b"", line) if b"\\" in line else line
    marks = plain.translate(_BRACKETS, _ALL_BUT_MARKS).replace(b'""', b"")
    brackets = _STRING.sub(b"", marks)
    for _ in range(most):
        left = brackets.replace(b"[]", b"")  # takes the innermost level away
        if not left or left == brackets:
            return not left
        brackets = left
    return False


def _refuse_constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is no number of JSON")
