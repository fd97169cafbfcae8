"""
Secret values in text, found and replaced.

Pure: values in, values out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import quote

MASK = "***"
SHORTEST_MASKED = 4
"""Shorter values would turn every log into stars, and hide nothing."""
SHORTEST_CUT = 8
"""So much of a value's beginning is hidden too where a text was cut off in the middle of it."""
_CUT = ("\n", "…", "...")

Hidden = tuple[str, ...]
"""Texts to be hidden, the longest first."""


def forms_of(value: str) -> frozenset[str]:
    """Return the value and its lines as they turn up in logs: as they are, as in JSON, as in a URL."""
    found: set[str] = set()
    for plain in {value.strip(), *(line.strip() for line in value.splitlines())}:
        found |= {plain, json.dumps(plain)[1:-1], json.dumps(plain, ensure_ascii=False)[1:-1], quote(plain, safe="")}
    return frozenset(one for one in found if len(one) >= SHORTEST_MASKED)


def list_hidden(values: Iterable[str]) -> Hidden:
    """Return all that has to be hidden for *values*, the longest first, so that none leaves a rest of another."""
    found = frozenset[str]().union(*(forms_of(value) for value in values))
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def hide(text: str, hidden: Hidden) -> str:
    """Return *text* with each of *hidden*, and each that a cut left the beginning of, as `***`."""
    for one in hidden:
        if one in text:
            text = text.replace(one, MASK)
    for one in hidden:
        if one[:SHORTEST_CUT] in text:
            text = _hide_cut(text, one)
    return text


def _hide_cut(text: str, hidden: str) -> str:
    if len(hidden) <= SHORTEST_CUT:
        return text
    at = text.find(hidden[:SHORTEST_CUT])
    while at >= 0:
        end = at + SHORTEST_CUT
        while end < len(text) and end - at < len(hidden) and text[end] == hidden[end - at]:
            end += 1
        if _is_cut(text, end):
            text = text[:at] + MASK + text[end:]
            end = at + len(MASK)
        at = text.find(hidden[:SHORTEST_CUT], end)
    return text


def _is_cut(text: str, end: int) -> bool:
    return end == len(text) or text.startswith(_CUT, end)
