"""Which address may be the target of a fixed route, judged at every resolution of its name."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass

from controller.errors import Refused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


METADATA: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "fd00:ec2::/32",  # Amazon: metadata, credentials of containers, time, names
        "fd20:ce::254/128",  # Google
        "fd00:42::42/128",  # Scaleway
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure
        "192.0.0.192/32",  # Oracle
    )
)
"""Where clouds hand credentials to whoever asks from the machine itself, beside the link-local 169.254.0.0/16."""
_WRAPPED = tuple(ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96"))
"""IPv6 networks whose last 32 bits are an IPv4 address that is reached in the end."""


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
        found = ipaddress.ip_address(address.partition("%")[0])
        found = getattr(found, "ipv4_mapped", None) or found
        reached = (found, *_inside(found))
        if any(one.is_link_local for one in reached):
            return f"{found} is link-local; that is never a target"
        if any(_is_metadata(one) for one in reached):
            return f"{found} leads to a cloud's metadata, which hands out credentials; that is never a target"
        is_nobodys = found.is_multicast or found.is_unspecified or (found.is_reserved and not found.is_loopback)
        if is_nobodys:
            return f"{found} is multicast or no host's address; that is never a target"
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


def _is_metadata(address: Address) -> bool:
    return any(address in net for net in METADATA)


def _inside(address: Address) -> list[Address]:
    """Return the IPv4 addresses that an IPv6 address leads to by translation or a tunnel."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.sixtofour, *(address.teredo or ())]
    if any(address in net for net in _WRAPPED):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


def _networks(texts: Collection[str]) -> list[Network]:
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue
    return found
