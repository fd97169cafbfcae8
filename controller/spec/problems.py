"""Problems and warnings in the one form that people see: file, line, field, what was found, what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LONGEST = 80
"""Characters of one scalar that may be quoted; a spec may hold what should not be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong (or, among warnings, doubtful) at one place of a file."""

    file: str
    line: int
    field: str = ""
    """Dotted, list positions in brackets: `routes[0].host`; empty: the document or the file as a whole."""
    found: str = ""
    allowed: str = ""
    message: str = ""
    """The whole matter in words, where found and allowed would say less."""

    @property
    def text(self) -> str:
        """The problem in one line: `file:line: field: found …, allowed: …`."""
        what = self.message or f"found {self.found}, allowed: {self.allowed}"
        return ": ".join(part for part in (f"{self.file}:{self.line}", self.field, what) if part)


def render_field(path: Iterable[str | int]) -> str:
    """Return a path of keys and positions as people write it."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + cut(step)
    return text


def quote(text: str) -> str:
    """Return *text* in double quotes on one line, at most 80 characters of it."""
    return '"' + cut(text).replace('"', '\\"') + '"'


def cut(text: str) -> str:
    """Return at most 80 characters of *text*, with nothing in it that would move a cursor."""
    short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return "".join(mark if mark.isprintable() else _escape(mark) for mark in short)


def _escape(mark: str) -> str:
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(mark) or f"\\u{ord(mark):04x}"
