"""
How the text of an environment variable becomes a value.

Each parser takes the whole text and raises ValueError (or KeyError) for what it does not take; `knob` turns
that into the sentence that says what is allowed. Knows no variable by name.
"""

from __future__ import annotations

import grp
import ipaddress
import os
import pwd
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BeforeValidator

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class ProxyUser:
    """Whom workers and inspectors run as."""

    uid: int
    gid: int


def knob(allowed: str, parse: Callable[[str], object]) -> BeforeValidator:
    """Return a validator that parses text with *parse* and says *allowed* when that raises ValueError."""

    def check(value: object) -> object:
        if not isinstance(value, str | int | Path):
            return value  # a flag or a test handed the finished value in
        try:
            return parse(str(value).strip())
        except (ValueError, KeyError):
            raise ValueError(allowed) from None

    return BeforeValidator(check)


def parse_duration_s(text: str) -> float:
    """Return the seconds that *text* such as `500ms`, `10s`, `2m`, `1h` or `1m30s` says; ValueError otherwise."""
    if text == "0":
        return 0.0
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(text)
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def between(low: float, high: float) -> Callable[[str], float]:
    """Take durations from *low* to *high* seconds."""

    def parse(text: str) -> float:
        seconds = parse_duration_s(text)
        if not low <= seconds <= high:
            raise ValueError(text)
        return seconds

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """Take whole numbers from *low* to *high*."""

    def parse(text: str) -> int:
        # int() alone would take "1_000", "+3" and digits of other scripts.
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(text)
        return int(text)

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    """Take one of *words*, in either case."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(text)
        return text.lower()

    return parse


def matching(pattern: str) -> Callable[[str], str]:
    """Take what *pattern* matches as a whole."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return parse


def parse_host(text: str) -> str:
    """Return a host name as requests are compared with it: lower case, without a final dot, an IDN in punycode."""
    return matching(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")(text.lower().removesuffix("."))


def list_of(parse_one: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    """Take a comma-separated list of what *parse_one* takes; empty parts do not count."""

    def parse(text: str) -> tuple[str, ...]:
        return tuple(parse_one(part.strip()) for part in text.split(",") if part.strip())

    return parse


def parse_path(text: str) -> Path:
    """Return the absolute path, seen from the working directory; links are not followed."""
    if not text or "\0" in text:
        raise ValueError(text)
    return Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - resolve() would follow links


def parse_absolute(text: str) -> str:
    """Return an absolute path without dot segments."""
    if not text.startswith("/"):
        raise ValueError(text)
    return os.path.normpath(text)


def parse_address(text: str) -> str:
    """Return one IP address in its usual form."""
    return str(ipaddress.ip_address(text.strip("[]")))


def parse_cidr(text: str) -> str:
    """Return an address range; host bits are cleared and a single address is a range of one."""
    return str(ipaddress.ip_network(text, strict=False))


def parse_subnet(text: str) -> str:
    """Return an IPv4 range that has room for replicas."""
    network = ipaddress.ip_network(text)
    if network.version != 4 or not 8 <= network.prefixlen <= 28:
        raise ValueError(text)
    return str(network)


def parse_capability(text: str) -> str:
    """Return a capability's name in upper case without `CAP_`."""
    return matching(r"[A-Z_]{3,40}")(text.upper().removeprefix("CAP_"))


def parse_target(text: str) -> str:
    """Return an address range, or a host name with an optional port."""
    with suppress(ValueError):
        return parse_cidr(text)
    return matching(r"[A-Za-z0-9.\-]{1,253}(:[0-9]{1,5})?")(text)


def parse_api(text: str) -> tuple[str, int] | None:
    """Return address and port of the API, or None for `off`."""
    if text.lower() == "off":
        return None
    host, _, port = text.rpartition(":")
    return _parse_api_host(host), whole(1, 65535)(port)


def _parse_api_host(text: str) -> str:
    if text.lower() == "localhost":
        return "127.0.0.1"
    if is_address(text.strip("[]")):
        address = parse_address(text)
        if ipaddress.ip_address(address).is_unspecified or "%" in address:
            raise ValueError(text)  # no certificate is for it; a host name means every address, and has one
        return address
    return matching(r"(?!-)[a-z0-9-]+(\.[a-z0-9-]+)+")(text.lower())


def is_address(host: str) -> bool:
    """Say whether *host* is an address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Say whether what listens at *host* can be reached from this machine alone."""
    return is_address(host) and ipaddress.ip_address(host).is_loopback


def parse_proxy_user(text: str) -> ProxyUser:
    """Return the user that a name, `uid` or `uid:gid` means; never root, and another user only where we are root."""
    name, _, group = text.partition(":")
    if name.isdecimal():
        uid = int(name)
        gid = int(group) if group else _group_of(uid)
    else:
        entry = pwd.getpwnam(name)
        uid, gid = entry.pw_uid, grp.getgrnam(group).gr_gid if group else entry.pw_gid
    if uid == 0 or uid >= 2**32 - 1 or (os.geteuid() != 0 and uid != os.geteuid()):
        raise ValueError(text)
    return ProxyUser(uid, gid)


def _group_of(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def parse_git_url(text: str) -> str:
    """Return an address that git can clone from."""
    # A leading dash would be read as an option by git.
    return matching(r"(https?|ssh|git|file)://\S+|[^\s\-][^\s:]*@[^\s:]+:\S+|/\S+")(text)
