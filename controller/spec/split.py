"""Where the documents of a YAML stream begin and end, by its lines alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

_START = re.compile(r"---(?=\s|$)")
_END = re.compile(r"\.\.\.(?=\s|$)")
_LINES = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Chunk:
    """The lines of one document, its `---` and directives included; both ends count from 1."""

    first_line: int
    last_line: int
    text: str


def split_lines(text: str) -> list[str]:
    """Return the lines of *text* as YAML and editors count them; a final line break opens no line."""
    lines = _LINES.split(text)
    return lines[:-1] if lines[-1] == "" else lines


def split_documents(text: str) -> tuple[Chunk, ...]:
    """Return the documents of *text* that hold anything, whatever their insides look like.

    A document owns every line from its `---` (the first: from the start of the file) up to the line before
    the next one. Comments ahead of a first `---` belong to none, so that they survive a replacement.
    `---` at the start of a line is a border even inside quotes or a block: YAML forbids it there.
    """
    lines = split_lines(text)
    starts = [index for index, begins in enumerate(_mark_starts(lines)) if begins]
    chunks = []
    for position, start in enumerate(starts):
        end = starts[position + 1] if position + 1 < len(starts) else len(lines)
        body = lines[start:end]
        if any(_holds_something(line) for line in body):
            chunks.append(Chunk(start + 1, end, "\n".join(body) + "\n"))
    return tuple(chunks)


def _mark_starts(lines: list[str]) -> list[bool]:
    """Say for each line whether a document begins there."""
    starts = [False] * len(lines)
    inside = False
    directive: int | None = None
    for index, line in enumerate(lines):
        if _START.match(line):
            starts[directive if directive is not None and not inside else index] = True
            inside, directive = True, None
        elif _END.match(line):
            inside, directive = False, None
        elif not inside and line.startswith("%"):
            directive = index if directive is None else directive
        elif not inside and not _is_blank(line):
            starts[0 if not any(starts) else index] = True
            inside, directive = True, None
    return starts


def _is_blank(line: str) -> bool:
    stripped = line.strip(" \t\ufeff")
    return not stripped or stripped.startswith("#")


def _holds_something(line: str) -> bool:
    rest = line[3:] if _START.match(line) or _END.match(line) else line
    return not _is_blank(rest) and not line.startswith("%")
