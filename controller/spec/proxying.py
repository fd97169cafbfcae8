"""How the proxy treats an app's requests: the spec's `proxy` block."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from controller.spec.base import Part
from controller.spec.faults import Fault, allowed, faulty
from controller.spec.health import HeaderMap, HeaderNames
from controller.spec.hosts import Host, read_authority, read_path
from controller.spec.values import Duration, Flag, PositiveDuration, Size, Whole, read_texts

_ADDON = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$", re.ASCII)
_HASHES = r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}|\$apr1\$[./A-Za-z0-9]{1,8}\$[./A-Za-z0-9]{22}|\{SHA\}[A-Za-z0-9+/]{27}="
_HTPASSWD = re.compile(rf"^[^:\s][^:\x00-\x1f]{{0,254}}:({_HASHES})$", re.ASCII)
_PLACE = re.compile(r"^(https?://[^\s/]+)?(/[^\s]*)?$", re.ASCII)


def _read_prefixes(value: Any) -> tuple[str, ...]:
    return tuple(read_path(item) for item in read_texts(value))


def _read_networks(value: Any) -> tuple[str, ...]:
    networks = []
    for index, item in enumerate(read_texts(value)):
        try:
            networks.append(str(ipaddress.ip_network(item, strict=False)))
        except ValueError:
            raise allowed("an address range such as 10.0.0.0/8 or 2001:db8::/32", index) from None
    return tuple(networks)


def _read_accounts(value: Any) -> tuple[str, ...]:
    lines = read_texts(value)
    for index, line in enumerate(lines):
        if not _HTPASSWD.fullmatch(line):
            # A line that is nearly right holds somebody's password: it is never quoted.
            fault = Fault(
                at=(index,), message="allowed: a line of `htpasswd -nB NAME`: a name and a bcrypt, apr1 or SHA hash"
            )
            raise faulty([fault])
    return lines


def _read_addons(value: Any) -> tuple[str, ...]:
    names = read_texts(value)
    for index, name in enumerate(names):
        if not _ADDON.fullmatch(name):
            raise allowed("the name of an addon in the state directory's addons/, without .py", index)
    return names


def _read_place(value: Any) -> str:
    if not isinstance(value, str) or not value or not _PLACE.fullmatch(value) or len(value) > 2000:
        raise allowed("a path that starts with /, or a URL that starts with http:// or https://")
    url = _URL.fullmatch(value)
    host = read_authority(url["host"]) if url is not None else None
    return value if url is None or host is None else url["scheme"] + host + url["rest"]


BCRYPT_COST_MOST = 14
"""Each step doubles the time: 14 takes about a second of one core for each new password, 31 a day and a half."""

MOST_REQUESTS = 1_000_000_000
"""Largest `rate_limit.requests` and `burst`."""

_COST = re.compile(r":\$2[aby]\$(\d\d)\$")
_URL = re.compile(r"(?P<scheme>https?://)(?P<host>[^/]*)(?P<rest>.*)", re.DOTALL)


def find_proxy_faults(proxy: Proxy) -> Iterator[Fault]:
    """Yield what the proxy could not serve or would not do, though each value looks right by itself."""
    for index, line in enumerate(proxy.basic_auth):
        cost = _COST.search(line)
        if cost is not None and not 4 <= int(cost[1]) <= BCRYPT_COST_MOST:
            # Not quoted: it holds somebody's password.
            found = f"bcrypt cost {int(cost[1])}, allowed: 4 to {BCRYPT_COST_MOST}"
            yield Fault(at=("basic_auth", index), message=f"{found}; make it with: htpasswd -nBC 12 NAME")
    for index, redirect in enumerate(proxy.redirects):
        if not _is_source(redirect.source):
            yield Fault(at=("redirects", index, "from"), allowed=f"{_SAY_PLACE}, without query")
        if not _is_place(redirect.to):
            yield Fault(at=("redirects", index, "to"), allowed=_SAY_PLACE)
    if proxy.rate_limit is not None:
        for name in ("requests", "burst"):
            if (getattr(proxy.rate_limit, name) or 1) > MOST_REQUESTS:
                yield Fault(at=("rate_limit", name), allowed=f"at most {MOST_REQUESTS}")


_SAY_PLACE = "a path that starts with one /, or a URL such as https://shop.example.com/new"


def _is_source(text: str) -> bool:
    return _is_place(text) and not set("?#") & set(text) and not text.startswith("//")


def _is_place(text: str) -> bool:
    if not text.isprintable():
        return False
    url = _URL.fullmatch(text)
    return text.startswith("/") if url is None else read_authority(url["host"]) is not None


_LIST_SCHEMA = {"type": "array", "items": {"type": "string"}}
_PLACE_SCHEMA = {"type": "string", "pattern": r"^(https?://|/)"}
Prefixes = Annotated[tuple[str, ...], BeforeValidator(_read_prefixes), WithJsonSchema(_LIST_SCHEMA)]
Ranges = Annotated[tuple[str, ...], BeforeValidator(_read_networks), WithJsonSchema(_LIST_SCHEMA)]
Accounts = Annotated[tuple[str, ...], BeforeValidator(_read_accounts), WithJsonSchema(_LIST_SCHEMA)]
Addons = Annotated[tuple[str, ...], BeforeValidator(_read_addons), WithJsonSchema(_LIST_SCHEMA)]
Place = Annotated[str, BeforeValidator(_read_place), WithJsonSchema(_PLACE_SCHEMA)]


class HeaderEdit(Part):
    """Headers to take away, then headers to set."""

    set: HeaderMap = Field(default_factory=dict)
    """Set to these values, whatever was there."""
    remove: HeaderNames = ()
    """Taken away."""


class Headers(Part):
    """Edits on the way in and on the way out."""

    request: HeaderEdit = HeaderEdit()
    """Before the app sees the request."""
    response: HeaderEdit = HeaderEdit()
    """Before the client sees the answer."""


class RateLimit(Part):
    """Requests per client address; beyond it 429."""

    requests: Whole = Field(ge=1)
    """How many requests."""
    per: PositiveDuration = 1.0
    """In how much time."""
    burst: Whole | None = Field(default=None, ge=1)
    """How many at once; as many as `requests` unless set."""

    @property
    def burst_count(self) -> int:
        """Return the burst that holds."""
        return self.requests if self.burst is None else self.burst


class Redirect(Part):
    """One path that is answered with another place."""

    source: Place = Field(alias="from")
    """Path, or URL with host, that is asked for."""
    to: Place
    """Where the client is sent."""
    code: Literal[301, 302, 303, 307, 308] = 301
    """Status of the answer."""


class Proxy(Part):
    """How the proxy treats the app's requests; nothing here replaces containers."""

    timeout: PositiveDuration = 30.0
    """From the request sent to the response head; beyond it 504."""
    idle: PositiveDuration | None = None
    """Longest silence between bytes; 5m, and 1h for event streams and WebSockets, unless set."""
    body_limit: Size = Field(default=100 * 1024**2, ge=1)
    """Largest request body; beyond it 413."""
    max_in_flight: Whole = Field(default=1000, ge=1, le=1_000_000)
    """Requests that the app has open at once; beyond it 503."""
    https: Literal["auto", "allow", "redirect", "only"] = "auto"
    """auto: redirect plain requests where TLS and a certificate for the host exist; allow: serve both;
    redirect: always redirect; only: 403 on plain ones."""
    hsts: Duration = 0.0
    """max-age of Strict-Transport-Security on TLS answers; 0s sends none."""
    sticky: Flag = False
    """A client stays with its replica, by cookie."""
    assets: Prefixes = ()
    """Prefixes whose 404 on the new release is asked of the old one while that stays."""
    headers: Headers = Headers()
    """Header edits."""
    basic_auth: Accounts = ()
    """htpasswd lines (bcrypt, apr1 or SHA); with any, a password is asked for."""
    allow: Ranges = ()
    """Client address ranges that may come in; empty: all."""
    rate_limit: RateLimit | None = None
    """Requests per client address; absent: no limit."""
    canonical_host: Host | None = None
    """Other hosts of the app are redirected here."""
    redirects: tuple[Redirect, ...] = ()
    """Places that have moved."""
    inspect: Flag = False
    """Send its traffic through mitmproxy's own layers, in a process of its own."""
    inspect_required: Flag = False
    """Answer 503 while that process is down, instead of going round it."""
    addons: Addons = ()
    """mitmproxy addons of the state directory's addons/ that its traffic runs through."""

    @model_validator(mode="after")
    def _orderly(self) -> Self:
        faults = [
            Fault(at=(field,), allowed="only together with inspect: true")
            for field in ("inspect_required", "addons")
            if getattr(self, field) and not self.inspect
        ]
        if faults:
            raise faulty(faults)
        return self
