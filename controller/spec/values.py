"""Durations, sizes, percentages and the other small values that a spec is written in."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, StrictBool, StrictInt, StrictStr, WithJsonSchema

from controller.spec.faults import allowed

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
SIZES = {"": 1, "B": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
LONGEST_S = 366 * 86_400.0
LARGEST_BYTES = 2**50
SHORTEST_INTERVAL_S = 0.05

DURATION_PATTERN = r"^(\d+(\.\d+)?(ms|s|m|h|d))+$"
SIZE_PATTERN = r"^\d+(\.\d+)?\s?([KMGTkmgt]i?)?[Bb]?$"
PERCENT_PATTERN = r"^\d{1,3}(\.\d+)?%$"

_DURATION = re.compile(DURATION_PATTERN, re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s?(?:([KMGT])I?)?B?$", re.ASCII)
_PERCENT = re.compile(r"^(\d{1,3}(?:\.\d+)?)\s?%$", re.ASCII)
_NUMBER = re.compile(r"^\d+(\.\d+)?$", re.ASCII)

SAY_DURATION = "a duration such as 500ms, 10s, 2m, 1h30m"
SAY_SIZE = "a size such as 64K, 256M, 1G"
SAY_CPUS = "a number of cores above 0, such as 0.5 or 2"
SAY_SHARE = "a number, or a percentage such as 25%"


class WrittenInt(int):
    """A whole number as it stands in a file; `text` is how it was written."""

    text: str


class WrittenFloat(float):
    """A number with a fraction (or too long for an int) as it stands in a file."""

    text: str


def written_int(value: int, text: str) -> WrittenInt:
    """Return *value* with the text it was written as."""
    number = WrittenInt(value)
    number.text = text
    return number


def written_float(value: float, text: str) -> WrittenFloat:
    """Return *value* with the text it was written as."""
    number = WrittenFloat(value)
    number.text = text
    return number


def read_duration(value: Any) -> float:
    """Return seconds, to the millisecond; raises what is allowed.

    In a file a bare number is refused, since its unit would be a guess; 0 is the exception. Code and
    stored JSON hand in plain seconds.
    """
    if isinstance(value, str) and len(value) <= 40 and _DURATION.fullmatch(value):
        total_ms = sum(float(number) * UNITS_MS[unit] for number, unit in _DURATION_PART.findall(value))
        seconds = round(total_ms) / 1000
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        if value != 0 and isinstance(value, WrittenInt | WrittenFloat):
            raise allowed(SAY_DURATION)
        seconds = float(value)
    else:
        raise allowed(SAY_DURATION)
    if not 0 <= seconds <= LONGEST_S:
        raise allowed("a duration from 0s to 366d")
    return seconds


def render_duration(seconds: float) -> str:
    """Return the shortest way to write *seconds* that `read_duration` reads back unchanged."""
    rest = round(seconds * 1000)
    if rest == 0:
        return "0s"
    text = ""
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, UNITS_MS[unit])
        if count:
            text += f"{count}{unit}"
    return text


def read_positive_duration(value: Any) -> float:
    """Return seconds; 0 is not allowed."""
    seconds = read_duration(value)
    if seconds <= 0:
        raise allowed("a duration above 0s, such as 10s")
    return seconds


def read_interval(value: Any) -> float:
    """Return seconds, at least 50 ms: shorter ones would cost more than they tell."""
    seconds = read_duration(value)
    if seconds < SHORTEST_INTERVAL_S:
        raise allowed("a duration of at least 50ms, such as 1s")
    return seconds


def read_size(value: Any) -> int:
    """Return bytes; K, M, G and T are powers of 1024, a bare whole number is bytes, as in Compose."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = int(value)
    elif isinstance(value, str) and len(value) <= 40 and (match := _SIZE.fullmatch(value.upper())):
        size = round(float(match[1]) * SIZES[match[2] or ""])
    else:
        raise allowed(SAY_SIZE)
    if not 0 <= size <= LARGEST_BYTES:
        raise allowed("a size from 0 to 1024T")
    return size


def render_size(size_bytes: int) -> str:
    """Return the shortest exact way to write *size_bytes*."""
    for unit in ("T", "G", "M", "K"):
        if size_bytes and size_bytes % SIZES[unit] == 0:
            return f"{size_bytes // SIZES[unit]}{unit}"
    return str(size_bytes)


def read_cpus(value: Any) -> float:
    """Return a number of cores above 0."""
    if isinstance(value, str) and len(value) <= 20 and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 4096:
        raise allowed(SAY_CPUS)
    return round(float(value), 3)


def render_cpus(cpus: float) -> int | float:
    """Return *cpus* without a fraction that is 0."""
    return int(cpus) if cpus == int(cpus) else cpus


def read_share(value: Any) -> int | str:
    """Return a whole number, or a percentage from 0% to 100% in its shortest form."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100_000:
        return int(value)
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value)) and float(match[1]) <= 100:
        return f"{float(match[1]):g}%"
    raise allowed(SAY_SHARE)


def read_rate(value: Any) -> float:
    """Return a share from 0 to 1; in a file it is written as a percentage."""
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value)) and float(match[1]) <= 100:
        return float(match[1]) / 100
    if type(value) in {int, float} and 0 <= value <= 1:
        return float(value)
    raise allowed("a percentage from 0% to 100%, such as 5%")


def count_of(share: int | str, replicas: int, *, round_up: bool) -> int:
    """Return how many of *replicas* a number or a percentage means, rounded as asked."""
    if isinstance(share, int):
        return share
    exact = float(share.rstrip("%")) * replicas / 100
    # 14% of 50 is 7.000000000000001 in floats: without the rounding, a surge of 8.
    return math.ceil(round(exact, 6)) if round_up else math.floor(round(exact, 6))


def read_text(value: Any) -> str:
    """Return text; numbers come as they were written, booleans as true and false, as in Compose."""
    if isinstance(value, str):
        return _without_nul(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, WrittenInt | WrittenFloat):
        return value.text
    if isinstance(value, int | float):
        return str(value)
    raise allowed("a string")


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise allowed("a string without NUL")
    return value


def read_words(value: Any) -> tuple[str, ...]:
    """Return the words of a command: a list as it is, a string split as a shell would split it."""
    if isinstance(value, str):
        try:
            return tuple(shlex.split(_without_nul(value)))
        except ValueError as error:
            raise allowed(f"a command that a shell could split ({str(error).lower()})") from None
    if not isinstance(value, Sequence):
        raise allowed("a command: a string, or a list of strings")
    return read_texts(value)


def read_texts(value: Any) -> tuple[str, ...]:
    """Return a list of strings; numbers and booleans in it become text."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise allowed("a list of strings")
    for index, item in enumerate(value):
        if item is None or isinstance(item, Mapping | list | tuple):
            raise allowed("a string", index)
    return tuple(read_text(item) for item in value)


def read_name_or_texts(value: Any) -> tuple[str, ...]:
    """Return a list of strings where a single string stands for a list of one."""
    return (_without_nul(value),) if isinstance(value, str) else read_texts(value)


Text = StrictStr
Flag = StrictBool
Whole = StrictInt

_DURATION_SCHEMA = {
    "anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, {"const": 0}],
    "examples": ["500ms", "10s", "2m", "1h30m"],
}
_SIZE_SCHEMA = {
    "anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 0}],
    "examples": ["64K", "256M", "1G"],
}
_TEXT_SCHEMA = {"type": ["string", "number", "boolean"]}
_WORDS_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT_SCHEMA}]}

Duration = Annotated[float, BeforeValidator(read_duration), WithJsonSchema(_DURATION_SCHEMA)]
PositiveDuration = Annotated[float, BeforeValidator(read_positive_duration), WithJsonSchema(_DURATION_SCHEMA)]
Interval = Annotated[float, BeforeValidator(read_interval), WithJsonSchema(_DURATION_SCHEMA)]
Size = Annotated[int, BeforeValidator(read_size), WithJsonSchema(_SIZE_SCHEMA)]
Cpus = Annotated[
    float,
    BeforeValidator(read_cpus),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": _NUMBER.pattern}]}
    ),
]
Share = Annotated[
    int | str,
    BeforeValidator(read_share),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": PERCENT_PATTERN}]}),
]
Rate = Annotated[float, BeforeValidator(read_rate), WithJsonSchema({"type": "string", "pattern": PERCENT_PATTERN})]
Words = Annotated[tuple[str, ...], BeforeValidator(read_words), WithJsonSchema(_WORDS_SCHEMA)]
