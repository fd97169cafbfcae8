"""
An app's policy, ready to be asked: what a worker makes of it before it lets a request in.

The publisher compiles it too, before it saves or sends a table, so that both agree on what can be used. What cannot
is told as field, value and what is allowed; values that may be secrets are never quoted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import quote

from controller.routing.match import BadTarget, normalise_host
from controller.routing.table import HeaderEdit, Policy, RateLimit, Redirect

UPSTREAM = b"x-oton-upstream"
"""Names the replica to an inspector; nobody else may send it, and no replica gets it."""

BCRYPT_COST_MOST = 14
"""Twice the time for each step: 14 takes about a second of one core for each new password, 31 a day and a half."""

LARGEST = 10**15
"""No number of a policy is larger; beyond it arithmetic with fractions would fail or mean nothing."""

_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"host", UPSTREAM))
"""Headers that decide where a message ends or goes; an edit of them would break the connection."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_ACCOUNT = re.compile(
    r"[^:\s][^:\x00-\x1f]*:(?:\$2[aby]\$(?P<cost>\d\d)\$[./A-Za-z0-9]{53}"
    r"|\$apr1\$[./A-Za-z0-9]{1,8}\$[./A-Za-z0-9]{22}|\{SHA\}[A-Za-z0-9+/]{27}=)",
    re.ASCII,
)
_CODES = (301, 302, 303, 307, 308)
_HTTPS = ("auto", "allow", "redirect", "only")
_SAFE = "/%?#!$&'()*+,;=:@~[]-._"
_SHOWN = 80


def plain_name(name: bytes) -> bytes:
    """Return a header's name as CGI and its heirs would tell names apart: anything but letters and digits is alike."""
    return name.lower().translate(_HYPHENS)


_HYPHENS = bytes(byte if chr(byte).isalnum() and byte < 128 else 45 for byte in range(256))


class Unfit(ValueError):
    """An app's entry cannot be used: says field, what was found, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Header edits, ready for bytes."""

    remove: frozenset[bytes]
    lines: bytes

    def apply(self, block: bytes) -> bytes:
        """Return a request's lines after removing and setting, whichever way a removed name is spelt."""
        gone = {plain_name(name) for name in self.remove}
        kept = [line for line in block.splitlines(True) if plain_name(line.partition(b":")[0]) not in gone]
        return b"".join(kept) + self.lines

    def apply_to(self, lines: list[bytes]) -> list[bytes]:
        """Return header lines without their ends after removing and setting."""
        kept = [line for line in lines if line.partition(b":")[0].lower() not in self.remove]
        return kept + self.lines.split(b"\r\n")[:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A policy, compiled."""

    policy: Policy
    allow: tuple[IPv4Network | IPv6Network, ...] = ()
    canonical_host: str = ""
    redirects: Mapping[tuple[str, str], Redirect] = field(default_factory=dict)
    """(host or "", path) -> where it leads, fit for a Location."""
    request_edit: Edit | None = None
    response_edit: Edit | None = None
    hsts: bytes = b""
    assets: tuple[bytes, ...] = ()


def compile_policy(policy: Policy) -> Access:
    """Return *policy* ready to be asked; raises Unfit for the first field that cannot be used."""
    _check_scalars(policy)
    _check_rate(policy.rate_limit)
    for index, line in enumerate(policy.basic_auth):
        _check_account(line, index)
    return Access(
        policy=policy,
        allow=tuple(_read_network(cidr, index) for index, cidr in enumerate(policy.allow)),
        canonical_host=_read_host("proxy.canonical_host", policy.canonical_host) if policy.canonical_host else "",
        redirects=dict(_read_redirect(one, index) for index, one in enumerate(policy.redirects)),
        request_edit=_compile_edit("proxy.headers.request", policy.request_headers),
        response_edit=_compile_edit("proxy.headers.response", policy.response_headers),
        hsts=f"Strict-Transport-Security: max-age={int(policy.hsts_s)}".encode() if policy.hsts_s else b"",
        assets=tuple(_read_prefix(prefix, index) for index, prefix in enumerate(policy.assets)),
    )


def check_number(place: str, value: object, *, least: float = 0) -> None:
    """Raise Unfit unless *value* is a number from *least* up that can be reckoned with."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= LARGEST or not math.isfinite(value):  # type: ignore[operator, arg-type]
        raise Unfit(say(place, value, f"a number of at least {least:g}"))


def say(place: str, found: object, allowed: str) -> str:
    """Return one line for a person; what was found is cut short."""
    text = repr(found)
    return f"{place}: found {text[:_SHOWN] + '…' if len(text) > _SHOWN else text}, allowed: {allowed}"


def _check_scalars(policy: Policy) -> None:
    for name in ("timeout", "hsts"):
        check_number(f"proxy.{name}", getattr(policy, f"{name}_s"))
    check_number("proxy.body_limit", policy.body_limit_bytes)
    check_number("proxy.max_in_flight", policy.max_in_flight)
    if policy.idle_s is not None:
        check_number("proxy.idle", policy.idle_s)
    for name in ("sticky", "inspect", "inspect_required"):
        if not isinstance(getattr(policy, name), bool):
            raise Unfit(say(f"proxy.{name}", getattr(policy, name), "true or false"))
    if policy.https not in _HTTPS:
        raise Unfit(say("proxy.https", policy.https, ", ".join(_HTTPS)))
    for index, name in enumerate(policy.addons):
        _read_text(f"proxy.addons[{index}]", name)


def _check_rate(limit: RateLimit | None) -> None:
    if limit is None:
        return
    check_number("proxy.rate_limit.requests", limit.requests, least=1)
    check_number("proxy.rate_limit.burst", limit.burst, least=1)
    check_number("proxy.rate_limit.per", limit.per_s)
    if limit.per_s <= 0:
        raise Unfit(say("proxy.rate_limit.per", limit.per_s, "a duration above 0s"))


def _check_account(line: object, index: int) -> None:
    found = _ACCOUNT.fullmatch(line) if isinstance(line, str) else None
    if found is None:
        # A line that is nearly right holds somebody's password: it is never quoted.
        raise Unfit(f"proxy.basic_auth[{index}]: allowed: a name and a bcrypt, apr1 or SHA hash")
    if found["cost"] is not None and not 4 <= int(found["cost"]) <= BCRYPT_COST_MOST:
        raise Unfit(say(f"proxy.basic_auth[{index}]: cost", int(found["cost"]), f"4 to {BCRYPT_COST_MOST}"))


def _read_text(place: str, value: object) -> str:
    if not isinstance(value, str):
        raise Unfit(say(place, value, "text"))
    return value


def _read_network(cidr: object, index: int) -> IPv4Network | IPv6Network:
    place = f"proxy.allow[{index}]"
    try:
        return ip_network(_read_text(place, cidr), strict=False)
    except ValueError as error:
        raise Unfit(say(place, cidr, "an address range such as 10.0.0.0/8")) from error


def _read_prefix(prefix: object, index: int) -> bytes:
    place = f"proxy.assets[{index}]"
    text = _read_text(place, prefix)
    if not text.startswith("/"):
        raise Unfit(say(place, prefix, "a path that starts with /"))
    return quote(text.rstrip("/"), safe=_SAFE, errors="replace").encode()


def _read_host(place: str, host: object) -> str:
    try:
        return normalise_host(_read_text(place, host))
    except BadTarget as error:
        raise Unfit(say(place, host, f"a host name ({error})")) from error


def _read_redirect(redirect: Redirect, index: int) -> tuple[tuple[str, str], Redirect]:
    place = f"proxy.redirects[{index}]"
    if redirect.code not in _CODES:
        raise Unfit(say(f"{place}.code", redirect.code, ", ".join(map(str, _CODES))))
    _, host, path = _read_place(f"{place}.from", redirect.source)
    scheme, to_host, rest = _read_place(f"{place}.to", redirect.to)
    key = (host, re.split("[?#]", path)[0] or "/")
    return key, Redirect(source=redirect.source, to=scheme + to_host + rest, code=redirect.code)


def _read_place(place: str, text: object) -> tuple[str, str, str]:
    """Return scheme with its slashes, host (with port) and the rest of a URL; the first two are "" for a path."""
    whole = _read_text(place, text)
    if not whole.isprintable() or " " in whole:
        raise Unfit(say(place, text, "a path or URL without spaces and control characters"))
    scheme = next((one for one in ("http://", "https://") if whole.startswith(one)), "")
    authority, slash, rest = whole[len(scheme) :].partition("/")
    if not scheme and (authority or not slash):
        raise Unfit(say(place, text, "a path that starts with /, or a URL that starts with http:// or https://"))
    host = _read_host(place, authority) if scheme else ""
    port = _PORT.search(authority) if scheme and place.endswith(".to") else None
    return scheme, host + (port[0] if port else ""), quote(slash + rest, safe=_SAFE, errors="replace")


_PORT = re.compile(r":[0-9]{1,5}$", re.ASCII)


def _compile_edit(place: str, edit: HeaderEdit) -> Edit | None:
    for name in edit.remove:
        _check_name(f"{place}.remove", name)
    for pair in edit.set:
        name, value = _read_pair(f"{place}.set", pair)
        _check_name(f"{place}.set", name)
        if not _VALUE.fullmatch(value):
            # Not quoted: it may be a key that the app's backend wants.
            raise Unfit(f"{place}.set.{name}: allowed: a value of visible characters on one line")
    if not edit.set and not edit.remove:
        return None
    pairs = [(name, value) for name, value in edit.set if name.lower().encode() not in _FRAMING]
    names = {name.lower().encode() for name in (*edit.remove, *(name for name, _ in pairs))} - _FRAMING
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return Edit(frozenset(names), lines.encode("latin-1"))


def _read_pair(place: str, pair: object) -> tuple[str, str]:
    match pair:
        case (str(name), str(value)):
            return name, value
    raise Unfit(f"{place}: allowed: pairs of a header's name and its value")


def _check_name(place: str, name: object) -> None:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise Unfit(say(place, name, "a header name such as X-Frame-Options"))
