"""Host names and paths of the public side, in the one form in which they are compared."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import quote

import idna
from pydantic import BeforeValidator, WithJsonSchema

from controller.spec.faults import allowed

_LABEL = re.compile(r"^(?!-)[a-z0-9_-]{1,63}(?<!-)$", re.ASCII)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PATH_SAFE = "/!$&'()*+,;=:@-._~%"

SAY_HOST = "a host name such as shop.example.com, without scheme, port or path"
SAY_PATTERN = "a host name such as shop.example.com, or *.example.com (one label); leave it out for any host"
SAY_PATH = "a path that starts with /, without query, dot segments, spaces, brackets or encoded slashes"


def read_host(value: Any) -> str:
    """Return an exact host in lower case and punycode, without final dot."""
    if not isinstance(value, str) or "*" in value:
        raise allowed(SAY_HOST)
    host = _plain_host(value)
    if host is None:
        raise allowed(SAY_HOST)
    return host


def read_pattern(value: Any) -> str | None:
    """Return an exact host, or a wildcard over its first label; None stands for any host."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise allowed(SAY_PATTERN)
    wild, rest = ("*.", value[2:]) if value.startswith("*.") else ("", value)
    host = _plain_host(rest)
    if host is None:
        raise allowed(SAY_PATTERN)
    return wild + host


def read_authority(text: str) -> str | None:
    """Return a URL's host, with its port if it has one, as it is compared; None where it is none."""
    host, colon, port = text.partition(":")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        return None
    plain = _plain_host(host)
    return None if plain is None else plain + colon + port


def _plain_host(text: str) -> str | None:
    host = text.lower().removesuffix(".")
    if not host or len(text) > 400:
        return None
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return None
    return host if len(host) <= 253 and all(_LABEL.fullmatch(label) for label in host.split(".")) else None


def read_path(value: Any) -> str:
    """Return a path prefix: unreserved escapes decoded, other escapes in upper case, no final slash."""
    if not isinstance(value, str) or not value.startswith("/") or len(value) > 2000:
        raise allowed(SAY_PATH)
    # Some clients send these encoded and some do not, so half of the requests would miss the route.
    if any(mark in value for mark in '?#\\"<>[]^`{|}') or any(ord(mark) <= 32 or ord(mark) == 127 for mark in value):
        raise allowed(SAY_PATH)
    if value.count("%") != len(_ESCAPE.findall(value)) or re.search(r"%(2f|5c|00)", value, re.IGNORECASE):
        raise allowed(SAY_PATH)
    path = _ESCAPE.sub(_decode_unreserved, quote(value, safe=_PATH_SAFE, errors="replace"))
    segments = path.removesuffix("/").split("/")[1:]
    if any(segment in {"", ".", ".."} for segment in segments):
        raise allowed(SAY_PATH)
    return "/" + "/".join(segments)


def _decode_unreserved(match: re.Match[str]) -> str:
    mark = chr(int(match[1], 16))
    return mark if mark in _UNRESERVED else match[0].upper()


def read_target(value: Any) -> str:
    """Return the target of a request (path and query) for a probe."""
    if not isinstance(value, str) or not value.startswith("/") or len(value) > 2000:
        raise allowed("a path that starts with /, such as /healthz")
    if not value.isascii() or "#" in value or any(ord(mark) <= 32 or ord(mark) == 127 for mark in value):
        raise allowed("a path of visible ASCII characters, with a query if need be, such as /healthz?full=1")
    return value


Host = Annotated[str, BeforeValidator(read_host), WithJsonSchema({"type": "string", "pattern": r"^[^*/:\s]+$"})]
HostPattern = Annotated[
    str | None,
    BeforeValidator(read_pattern),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": r"^(\*\.)?[^*/:\s]+$"}, {"type": "null"}]}),
]
Path = Annotated[str, BeforeValidator(read_path), WithJsonSchema({"type": "string", "pattern": r"^/[^?#\s\\]*$"})]
Target = Annotated[str, BeforeValidator(read_target), WithJsonSchema({"type": "string", "pattern": r"^/[^#\s]*$"})]
