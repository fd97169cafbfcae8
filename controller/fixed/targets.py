"""Which address may be the target of a fixed route, judged at every resolution of its name."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass

from controller.errors import Refused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """What a fixed route may not lead to."""

    own_ports: frozenset[int] = frozenset()
    """Ports of this machine on which the proxy, the API or the engine answer."""
    containers: tuple[str, ...] = ()
    """Networks of containers."""
    allowed: tuple[str, ...] = ()
    """OTON_ALLOW_TARGETS: address ranges, or names with an optional port."""

    def refuse(self, name: str, port: int, address: str, *, is_ours: bool) -> str:
        """Say why *address*, to which *name* leads now, may not be a target; empty: it may.

        *is_ours*: it is an address of this machine.
        """
        found = ipaddress.ip_address(address)
        found = getattr(found, "ipv4_mapped", None) or found
        is_nobodys = found.is_multicast or found.is_unspecified or (found.is_reserved and not found.is_loopback)
        if found.is_link_local or is_nobodys:
            return f"{found} is link-local, multicast or no host's address; that is never a target"
        if (is_ours or found.is_loopback) and port in self.own_ports:
            return f"port {port} of this machine is the service's own, or the engine's; that is never a target"
        is_inside = found.is_loopback or any(found in net for net in _networks(self.containers))
        if is_inside and not self._is_allowed(name, port, found):
            where = "loopback" if found.is_loopback else "a container"
            return f"{found} is {where}: that needs OTON_ALLOW_TARGETS={name}:{port}"
        return ""

    def _is_allowed(self, name: str, port: int, address: Address) -> bool:
        if any(address in net for net in _networks(self.allowed)):
            return True
        return name.lower() in self._names() or f"{name.lower()}:{port}" in self._names()

    def _names(self) -> frozenset[str]:
        return frozenset(text.lower() for text in self.allowed)


def read_target(text: str) -> tuple[str, int]:
    """Return host and port of `host:port`; Refused says what is allowed."""
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536 or len(host) > 253:
        raise Refused(f'targets: found "{text[:80]}", allowed: host:port, such as 10.0.0.7:8080')
    return host, int(port)


def _networks(texts: Collection[str]) -> list[Network]:
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue
    return found
