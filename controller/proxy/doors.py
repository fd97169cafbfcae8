"""
What an app's policy says about a request before any replica is asked.

A `Door` is made of a policy once; an app without special wishes has nothing to check. One that is shut lets nobody in:
it stands where the policy could not be had, since no app is ever served without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

from controller.proxy.passwords import Passwords
from controller.proxy.rates import Rates
from controller.routing.access import Access


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer in place of a replica's."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


SHUT = Refusal(503, (("Retry-After", "30"),))
"""The answer where an app's policy cannot be had."""


BUSY = Refusal(503, (("Retry-After", "1"),))
"""The answer where a password cannot be checked now: too many wait already."""


class Waiting(Exception):
    """The answer is not known yet; *begin* takes what to call with whether the password was right (None: unknown)."""

    def __init__(self, begin: Callable[[Callable[[bool | None], None]], None]) -> None:
        super().__init__()
        self.begin = begin


class Visitor(Protocol):
    """A request at the door."""

    method: bytes
    target: bytes
    rated: bool
    """It was counted for the app's rate limit."""

    def client_address(self) -> str: ...
    def is_secure(self) -> bool: ...
    def host_name(self) -> str: ...
    def authorization(self) -> bytes: ...


class Surroundings(Protocol):
    """What a door needs of its worker."""

    rates: Rates
    passwords: Passwords

    @property
    def tls_port(self) -> int | None:
        """Return where the public reaches us by TLS: known before any policy, and the same ever after."""
        ...

    def covers(self, host: str) -> bool:
        """Say whether there is a certificate for *host*."""
        ...


class Door:
    """One app's policy at work."""

    __slots__ = ("_app", "_around", "_asks", "access", "checks", "fault", "policy")

    def __init__(self, app: str, access: Access, around: Surroundings, fault: str = "") -> None:
        self._app = app
        self._around = around
        self.access = access
        """The policy, compiled; that of a shut door is the last one that was in force, for answers on their way."""
        self.policy = policy = access.policy
        self.fault = fault
        """Why nobody may come in; "" where the policy decides."""
        self._asks = bool(policy.basic_auth)
        self.checks = bool(
            fault or access.allow or self._asks or access.redirects or policy.rate_limit or policy.canonical_host
            or policy.https in ("redirect", "only") or (policy.https == "auto" and around.tls_port is not None)
        )  # fmt: skip
        """There is something to check at all."""

    def shut(self, fault: str) -> Door:
        """Return the same door, shut."""
        return Door(self._app, self.access, self._around, fault)

    def check(self, visitor: Visitor, now: float) -> Refusal | None:
        """Return the answer that *visitor* gets instead of a replica's, None to let it in; may raise Waiting."""
        if self.fault:
            return SHUT
        if self.access.allow and not self._is_allowed(visitor.client_address()):
            return Refusal(403)
        if refusal := self._check_scheme(visitor) or self._check_place(visitor):
            return refusal
        limit = self.policy.rate_limit
        if limit is not None and not visitor.rated:
            visitor.rated = True
            wait_s = self._around.rates.take(f"{self._app} {visitor.client_address()}", limit, now)
            if wait_s > 0:
                return Refusal(429, (("Retry-After", str(max(1, round(wait_s + 0.5)))),))
        if self._asks:
            return self._check_password(visitor)
        return None

    def is_asset(self, path: bytes) -> bool:
        """Say whether *path* lies below one of the prefixes that the old release is asked for."""
        return any(path == prefix or path.startswith(prefix + b"/") for prefix in self.access.assets)

    def _is_allowed(self, address: str) -> bool:
        try:
            client = ip_address(address)
        except ValueError:
            return False
        return any(client in network for network in self.access.allow)

    def _check_scheme(self, visitor: Visitor) -> Refusal | None:
        https = self.policy.https
        if https == "allow" or visitor.is_secure():
            return None
        if https == "only":
            return Refusal(403)
        around, host = self._around, visitor.host_name()
        if not host:
            return None if https == "auto" else Refusal(400)  # there is no place to send it to
        if https == "auto" and (around.tls_port is None or not around.covers(host)):
            return None
        port = "" if around.tls_port in (None, 443) else f":{around.tls_port}"
        return _move(308, f"https://{host}{port}", visitor.target)

    def _check_place(self, visitor: Visitor) -> Refusal | None:
        canonical, redirects = self.access.canonical_host, self.access.redirects
        scheme = "https" if visitor.is_secure() else "http"
        if canonical and visitor.host_name() != canonical:
            return _move(301 if visitor.method in (b"GET", b"HEAD") else 308, f"{scheme}://{canonical}", visitor.target)
        if not redirects:
            return None
        path, _, query = visitor.target.partition(b"?")
        text = path.decode("latin-1")
        found = redirects.get(("", text)) or redirects.get((visitor.host_name(), text))
        if found is None:
            return None
        to = found.to + ("?" + query.decode("latin-1") if query and "?" not in found.to else "")
        return Refusal(found.code, (("Location", to),))

    def _check_password(self, visitor: Visitor) -> Refusal | None:
        passwords, lines, given = self._around.passwords, self.policy.basic_auth, visitor.authorization()
        known = passwords.look(lines, given)
        if known is None:
            client = visitor.client_address()
            raise Waiting(lambda tell: passwords.check(self._app, client, lines, given, tell))
        return None if known else self.unauthorised()

    def unauthorised(self) -> Refusal:
        """Return the answer to a wrong password."""
        return Refusal(401, (("WWW-Authenticate", f'Basic realm="{self._app}", charset="UTF-8"'),))


def _move(status: int, base: str, target: bytes) -> Refusal:
    path = "" if target == b"*" else target.decode("latin-1")
    return Refusal(status, (("Location", base + path),))
