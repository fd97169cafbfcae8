"""How data is printed: aligned columns for people, stable JSON, YAML and bare names for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from controller.cli.options import Form

Row = Mapping[str, Any]
COLOURS = {"green": "32", "red": "31", "yellow": "33", "dim": "2", "bold": "1"}
MOOD = {
    "healthy": "green", "synced": "green", "live": "green", "ok": "green", "yes": "green",
    "degraded": "yellow", "progressing": "yellow", "pinned": "yellow", "suspended": "yellow", "held": "yellow",
    "rolled_back": "yellow", "rolling_out": "yellow", "warning": "yellow", "unknown": "yellow",
    "down": "red", "failed": "red", "invalid": "red", "error": "red",
}  # fmt: skip
"""Words that carry a colour wherever they stand alone in a column."""


BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2028\u2029\u2066\u2067\u2068\u2069")
"""Marks that turn the direction of what follows, or break its line: a name could be shown backwards."""


def use_colour(stream: Any) -> bool:
    """Say whether a stream is a terminal that wants colour."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str | None, stream: Any) -> str:
    """Return *text* in a colour, where the stream shows any."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if colour and use_colour(stream) else text


def print_rows(rows: Sequence[Row], form: Form, columns: Mapping[str, str], *, name: str, empty: str = "") -> None:
    """
    Print *rows* on standard output; *columns* maps a heading to a key or dotted path.

    *name* is the key that `-o name` prints. With no rows the table form says *empty* on standard error.
    """
    if form == "table":
        if rows:
            print_table([[cell(row, key) for key in columns.values()] for row in rows], list(columns))
        elif empty:
            say(empty)
        return
    print_data(list(rows), form, name=name)


def print_data(value: Any, form: Form, *, name: str = "app") -> None:
    """Print a value as JSON, YAML or names."""
    if form == "yaml":
        out(dump_yaml(value).rstrip("\n"))
    elif form == "name":
        for row in value if isinstance(value, list) else [value]:
            if row.get(name) is not None:
                out(str(row[name]))
    else:
        out(json.dumps(value, indent=2, ensure_ascii=False))


def print_line(value: Row, form: Form, *, name: str = "app") -> None:
    """Print one object of a stream: one line each (a YAML document each)."""
    if form == "json":
        out(json.dumps(value, ensure_ascii=False))
    elif form == "yaml":
        out("---\n" + dump_yaml(value).rstrip("\n"))
    else:
        print_data(value, "name", name=name)


def dump_yaml(value: Any) -> str:
    """Return a value as YAML."""
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def print_table(rows: Sequence[Sequence[str]], headings: Sequence[str]) -> None:
    """Print aligned columns; the last one takes what is left of the line."""
    wide = sys.stdout.isatty()
    limit = terminal_width() if wide else 0
    widths = [max(len(row[index]) for row in [headings, *rows]) for index in range(len(headings))]
    for number, row in enumerate([headings, *rows]):
        used, shown = 0, []
        for index, text in enumerate(row):
            last = index == len(row) - 1
            if last and limit:
                text = shorten(text, max(12, limit - used))  # noqa: PLW2901
            colour = "bold" if number == 0 else MOOD.get(text)
            shown.append(paint(text if last else text.ljust(widths[index]), colour, sys.stdout))
            used += widths[index] + 2
        out("  ".join(shown).rstrip())


def shorten(text: str, width: int) -> str:
    """Return *text* cut to a width."""
    return text if len(text) <= width else text[: width - 1] + "…"


def terminal_width() -> int:
    """Return the terminal's width."""
    try:
        return os.get_terminal_size().columns
    except OSError:
        return 80


def cell(row: Row, key: str) -> str:
    """Return one field for a column; a dash where there is none. Control characters never reach the terminal."""
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return plain(",".join(str(one) for one in value)).replace("\n", " ")
    return plain(str(value)).replace("\n", " ")


def plain(text: str) -> str:
    """Return *text* without marks that drive a terminal, so that an app's output cannot."""
    return "".join(char if (char >= " " or char in "\n\t") and not _drives(char) else "�" for char in text)


def _drives(char: str) -> bool:
    """Say whether a mark that is no ASCII control moves a cursor all the same, or turns the direction of text."""
    return char == "\x7f" or "\x80" <= char <= "\x9f" or char in BIDI


def _escaped(text: str, stream: Any) -> str:
    """Return *text* as it may go to *stream*; what we print ourselves has none of these, and JSON may escape them."""
    if not stream.isatty():
        return text
    return "".join(f"\\u{ord(char):04x}" if _drives(char) else char for char in text)


def age(text: str | None, now: datetime | None = None) -> str:
    """Return how long ago a moment was: 5s, 3m, 2h, 4d."""
    if not text:
        return "-"
    then = datetime.fromisoformat(text)
    return render_span(max(0.0, ((now or datetime.now(UTC)) - then).total_seconds()))


def render_span(seconds: float) -> str:
    """Render a span of time in its two largest units at most."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def out(text: str) -> None:
    """Print one piece of data."""
    sys.stdout.write(_escaped(text, sys.stdout) + "\n")
    sys.stdout.flush()


def say(*lines: str) -> None:
    """Print progress or a remark: on standard error, so that data stays clean."""
    for line in lines:
        sys.stderr.write(_escaped(line, sys.stderr) + "\n")
    sys.stderr.flush()


def say_all(lines: Iterable[str]) -> None:
    """Print several remarks, indented."""
    say(*(f"  {plain(line)}" for line in lines))
