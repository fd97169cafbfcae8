"""How readiness is asked, and which route leads to an app."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from controller.spec.base import Part
from controller.spec.faults import Fault, Place, allowed, faulty
from controller.spec.hosts import Host, HostPattern, Path, Target
from controller.spec.values import Duration, Flag, Interval, PositiveDuration, Whole, read_text, read_texts

_STATUS = re.compile(r"^([1-5]\d\d)(?:\s*-\s*([1-5]\d\d))?$", re.ASCII)
_TOKEN = re.compile(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", re.ASCII)
SAY_STATUS = "statuses such as 200, 200-399, or a list of these"


def read_headers(value: Any) -> dict[str, str]:
    """Return header names and values, both fit to be sent as they are."""
    if not isinstance(value, Mapping):
        raise allowed("a mapping of header names to values")
    faults = []
    headers: dict[str, str] = {}
    for key, item in value.items():
        name = read_text(key)
        if not _TOKEN.fullmatch(name):
            faults.append(Fault(at=(key,), allowed="a header name such as X-Frame-Options"))
        elif item is None or isinstance(item, Mapping | list | tuple) or not _is_field_value(read_text(item)):
            faults.append(Fault(at=(key,), allowed="a value of visible characters on one line"))
        else:
            headers[name] = read_text(item)
    if faults:
        raise faulty(faults)
    return headers


def _is_field_value(text: str) -> bool:
    visible = all(mark == "\t" or (32 <= ord(mark) < 256 and ord(mark) != 127) for mark in text)
    return visible and text == text.strip()


def read_header_names(value: Any) -> tuple[str, ...]:
    """Return a list of header names."""
    names = read_texts(value)
    for index, name in enumerate(names):
        if not _TOKEN.fullmatch(name):
            raise allowed("a header name such as Server", index)
    return names


def _read_status(value: Any) -> tuple[tuple[int, int], ...]:
    is_list = isinstance(value, list | tuple)
    items = value if is_list else (read_text(value).split(",") if value is not None else [])
    ranges = tuple(_read_range(item, (index,) if is_list else ()) for index, item in enumerate(items))
    if not ranges:
        raise allowed(SAY_STATUS)
    return ranges


def _read_range(item: Any, at: Place) -> tuple[int, int]:
    if isinstance(item, list | tuple) and len(item) == 2 and all(type(end) is int for end in item):
        low, high = item
    elif isinstance(item, str | int) and (match := _STATUS.fullmatch(read_text(item).strip())):
        low, high = int(match[1]), int(match[2] or match[1])
    else:
        raise faulty([Fault(at=at, allowed=SAY_STATUS)])
    if not 100 <= low <= high <= 599:
        raise faulty([Fault(at=at, allowed="a range from low to high, such as 200-399")])
    return low, high


def _read_test(value: Any) -> tuple[str, ...] | None:
    """Return a HEALTHCHECK's test as the engine takes it: CMD with words, or CMD-SHELL with a line."""
    if value is None:
        return None
    words = ("CMD-SHELL", value) if isinstance(value, str) else read_texts(value)
    if words and words[0] not in {"CMD", "CMD-SHELL", "NONE"}:
        words = ("CMD", *words)
    if len(words) < 2 or words[0] == "NONE" or (words[0] == "CMD-SHELL" and len(words) > 2) or not words[1].strip():
        raise allowed("a line for the shell, or a list of a program and its arguments")
    return words


_STATUS_ITEM = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^[1-5]\d\d(-[1-5]\d\d)?$"}]}
_STATUS_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 100, "maximum": 599},
        {"type": "string", "pattern": r"^[1-5]\d\d(-[1-5]\d\d)?(,[1-5]\d\d(-[1-5]\d\d)?)*$"},
        {"type": "array", "items": _STATUS_ITEM},
    ]
}
_TEST_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}

Status = Annotated[tuple[tuple[int, int], ...], BeforeValidator(_read_status), WithJsonSchema(_STATUS_SCHEMA)]
Test = Annotated[tuple[str, ...] | None, BeforeValidator(_read_test), WithJsonSchema(_TEST_SCHEMA)]
HeaderMap = Annotated[
    Mapping[str, str],
    BeforeValidator(read_headers),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}),
]
HeaderNames = Annotated[
    tuple[str, ...],
    BeforeValidator(read_header_names),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
]


class Route(Part):
    """One claim on the public side: a host and the paths below a prefix."""

    host: HostPattern = None
    """Exact (shop.example.com), one label open (*.example.com), or absent: any host."""
    path: Path = "/"
    """Prefix, on segment borders: /shop takes /shop and /shop/cart, not /shopping."""
    strip_path: Flag = False
    """Take the prefix off before the app sees the path; X-Forwarded-Prefix tells it."""

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise allowed("a mapping such as {host: shop.example.com, path: /shop}")
        return value

    @property
    def is_exact(self) -> bool:
        """Say whether it names one host, neither a wildcard nor any."""
        return self.host is not None and not self.host.startswith("*.")


class Health(Part):
    """How a replica is asked whether it is ready."""

    path: Target | None = None
    """Asked with GET on the replica's own address; ready is an answer with `status`. Needs `port`."""
    interval: Interval = 1.0
    """Between probes until ready and while failing; for 30 s after it got ready too."""
    steady: Interval = 10.0
    """Between probes of a replica that has been ready for 30 s."""
    timeout: PositiveDuration = 2.0
    """How long one probe may take."""
    passes: Whole = Field(default=1, ge=1, le=100)
    """Probes in a row that must succeed before it is ready."""
    failures: Whole = Field(default=3, ge=1, le=100)
    """Probes in a row that may fail before it is unrouted."""
    start_period: Duration = 0.0
    """After the start, for this long failures do not count."""
    status: Status = ((200, 399),)
    """What `path` must answer."""
    host: Host | None = None
    """The Host header of the probe; else the first exact route host, else localhost."""
    headers: HeaderMap = Field(default_factory=dict)
    """Further headers of the probe."""
    command: Test = None
    """Runs in the container (as its HEALTHCHECK) instead of a request. A change replaces containers."""

    @model_validator(mode="after")
    def _orderly(self) -> Self:
        taken = {"host", "content-length", "transfer-encoding", "connection"}
        wrong = [name for name in self.headers if name.lower() in taken]
        if wrong:
            raise faulty([Fault(at=("headers", wrong[0]), allowed="other headers; for Host there is health.host")])
        return self

    def accepts(self, status: int) -> bool:
        """Say whether an answer with *status* counts as ready."""
        return any(low <= status <= high for low, high in self.status)
