"""Which values of a spec let somebody in, so that they are not shown to whoever may only look."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_HEADER = re.compile(
    r"auth|cookie|token|secret|passw|credential|session|signature|(^|[-_])(key|apikey|sig)([-_]|$)|apikey",
    re.IGNORECASE,
)
_SETS = (("proxy", "headers", "request", "set"), ("proxy", "headers", "response", "set"), ("health", "headers"))
"""Where a spec has headers with their values."""


def is_sensitive(field: str) -> bool:
    """Say whether the value of a dotted field lets somebody in."""
    if field == "proxy.basic_auth" or field.startswith("proxy.basic_auth["):
        return True
    owner = next((".".join(place) + "." for place in _SETS if field.startswith(".".join(place) + ".")), None)
    return owner is not None and names_secret(field.removeprefix(owner))


def names_secret(header: str) -> bool:
    """Say whether a header's name is one whose value is usually secret."""
    return _HEADER.search(header) is not None


def mask_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rendered spec with what lets somebody in as `***`; names of users and headers stay."""
    masked = dict(spec)
    for place in _SETS:
        masked = _replaced(masked, place, _mask_headers)
    return _replaced(masked, ("proxy", "basic_auth"), lambda lines: [_mask_line(line) for line in lines])


def _mask_headers(headers: Any) -> Any:
    return {name: MASK if names_secret(name) else value for name, value in headers.items()}


def _mask_line(line: Any) -> str:
    return f"{str(line).partition(':')[0]}:{MASK}"


def _replaced(part: Mapping[str, Any], place: tuple[str, ...], change: Any) -> dict[str, Any]:
    inner = part.get(place[0])
    if not inner:
        return dict(part)
    return {**part, place[0]: change(inner) if len(place) == 1 else _replaced(inner, place[1:], change)}
