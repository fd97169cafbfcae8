"""
What an app's policy says about a request before any replica is asked, and how headers are edited.

A `Door` is compiled once from a policy; an app without special wishes has nothing to check.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Protocol
from urllib.parse import urlsplit

from controller.proxy.framing import UPSTREAM
from controller.proxy.passwords import Passwords
from controller.proxy.rates import Rates
from controller.routing.table import HeaderEdit, Policy, Redirect

_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"host", UPSTREAM))
"""Headers that decide where a message ends or goes; an edit of them would break the connection."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Header edits, ready for bytes."""

    remove: frozenset[bytes]
    lines: bytes

    def apply(self, block: bytes) -> bytes:
        """Return header lines after removing and setting."""
        kept = [line for line in block.splitlines(True) if line.partition(b":")[0].lower() not in self.remove]
        return b"".join(kept) + self.lines

    def apply_to(self, lines: list[bytes]) -> list[bytes]:
        """Return header lines without their ends after removing and setting."""
        kept = [line for line in lines if line.partition(b":")[0].lower() not in self.remove]
        return kept + self.lines.split(b"\r\n")[:-1]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer in place of a replica's."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


class Waiting(Exception):
    """The answer is not known yet; *begin* takes what to call with whether the password was right."""

    def __init__(self, begin: Callable[[Callable[[bool], None]], None]) -> None:
        super().__init__()
        self.begin = begin


class Visitor(Protocol):
    """A request at the door."""

    method: bytes
    target: bytes
    checked: bool
    """Its password was found right."""

    def client_address(self) -> str: ...
    def is_secure(self) -> bool: ...
    def host_name(self) -> str: ...
    def authorization(self) -> bytes: ...


class Surroundings(Protocol):
    """What a door needs of its worker."""

    rates: Rates
    passwords: Passwords
    tls_port: int | None

    def covers(self, host: str) -> bool:
        """Say whether there is a certificate for *host*."""
        ...


class Door:
    """One app's policy, compiled."""

    __slots__ = (
        "_allow", "_app", "_around", "_asks", "_redirects",
        "assets", "checks", "hsts", "policy", "request_edit", "response_edit",
    )  # fmt: skip

    def __init__(self, app: str, policy: Policy, around: Surroundings) -> None:
        self._app = app
        self._around = around
        self.policy = policy
        self.request_edit = _compile_edit(policy.request_headers)
        self.response_edit = _compile_edit(policy.response_headers)
        self.hsts = f"Strict-Transport-Security: max-age={int(policy.hsts_s)}".encode() if policy.hsts_s else b""
        self.assets = tuple(prefix.rstrip("/").encode() for prefix in policy.assets)
        self._allow = tuple(ip_network(cidr, strict=False) for cidr in policy.allow)
        self._asks = bool(policy.basic_auth)
        self._redirects = {_source_key(redirect): redirect for redirect in policy.redirects}
        self.checks = bool(
            self._allow or self._asks or self._redirects or policy.rate_limit or policy.canonical_host
            or policy.https in ("redirect", "only") or (policy.https == "auto" and around.tls_port is not None)
        )  # fmt: skip
        """There is something to check at all."""

    def check(self, visitor: Visitor, now: float) -> Refusal | None:
        """Return the answer that *visitor* gets instead of a replica's, None to let it in; may raise Waiting."""
        if self._allow and not self._is_allowed(visitor.client_address()):
            return Refusal(403)
        if refusal := self._check_scheme(visitor) or self._check_place(visitor):
            return refusal
        limit = self.policy.rate_limit
        if limit is not None and not visitor.checked:
            wait_s = self._around.rates.take(f"{self._app} {visitor.client_address()}", limit, now)
            if wait_s > 0:
                return Refusal(429, (("Retry-After", str(max(1, round(wait_s + 0.5)))),))
        if self._asks and not visitor.checked:
            return self._check_password(visitor)
        return None

    def is_asset(self, path: bytes) -> bool:
        """Say whether *path* lies below one of the prefixes that the old release is asked for."""
        return any(path == prefix or path.startswith(prefix + b"/") for prefix in self.assets)

    def _is_allowed(self, address: str) -> bool:
        try:
            client = ip_address(address)
        except ValueError:
            return False
        return any(client in network for network in self._allow)

    def _check_scheme(self, visitor: Visitor) -> Refusal | None:
        https = self.policy.https
        if https == "allow" or visitor.is_secure():
            return None
        if https == "only":
            return Refusal(403)
        around, host = self._around, visitor.host_name()
        if https == "auto" and (around.tls_port is None or not around.covers(host)):
            return None
        port = "" if around.tls_port in (None, 443) else f":{around.tls_port}"
        return _move(308, f"https://{host}{port}", visitor.target)

    def _check_place(self, visitor: Visitor) -> Refusal | None:
        canonical = self.policy.canonical_host
        scheme = "https" if visitor.is_secure() else "http"
        if canonical and visitor.host_name() != canonical.partition(":")[0].lower():
            return _move(301 if visitor.method in (b"GET", b"HEAD") else 308, f"{scheme}://{canonical}", visitor.target)
        if not self._redirects:
            return None
        path, _, query = visitor.target.partition(b"?")
        text = path.decode("latin-1")
        found = self._redirects.get(("", text)) or self._redirects.get((visitor.host_name(), text))
        if found is None:
            return None
        to = found.to + ("?" + query.decode("latin-1") if query and "?" not in found.to else "")
        return Refusal(found.code, (("Location", to),))

    def _check_password(self, visitor: Visitor) -> Refusal | None:
        passwords, lines, given = self._around.passwords, self.policy.basic_auth, visitor.authorization()
        known = passwords.look(lines, given)
        if known is None:
            raise Waiting(lambda tell: passwords.check(lines, given, tell))
        return None if known else self.unauthorised()

    def unauthorised(self) -> Refusal:
        """Return the answer to a wrong password."""
        return Refusal(401, (("WWW-Authenticate", f'Basic realm="{self._app}", charset="UTF-8"'),))


def _move(status: int, base: str, target: bytes) -> Refusal:
    return Refusal(status, (("Location", base + target.decode("latin-1")),))


def _source_key(redirect: Redirect) -> tuple[str, str]:
    parts = urlsplit(redirect.source)
    return (parts.hostname or "", parts.path or "/")


def _compile_edit(edit: HeaderEdit) -> Edit | None:
    if not edit.set and not edit.remove:
        return None
    pairs = [(name, value) for name, value in edit.set if name.lower().encode("latin-1") not in _FRAMING]
    names = {name.lower().encode("latin-1") for name in (*edit.remove, *(name for name, _ in pairs))} - _FRAMING
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return Edit(frozenset(names), lines.encode("latin-1", "replace"))
