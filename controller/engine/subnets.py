"""
Which addresses an app's network gets: a free range, the one that was given longest ago first.

A request that was on its way to a removed app's replica must find nobody, never the next app.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from controller.engine.notes import read_note, write_note

Subnet = ipaddress.IPv4Network

POOL = tuple(Subnet(f"10.{second}.0.0/16") for second in (*range(211, 255), *range(100, 211)))
"""Where subnets are picked from unless OTON_SUBNET says it: ranges that home and office networks seldom use."""
WIDEST = 22
"""A Linux bridge carries 1,023 containers: more addresses than these could never be used."""
USUAL = 24
NARROWEST = 28
LATELY = 256
"""So many freed subnets are remembered in their order."""
SHARE = 6
"""A pool of its own is cut into so many bits' worth of networks (64), where they do not get wider than usual."""


class Subnets:
    """Picks subnets for apps' networks, out of OTON_SUBNET where that is set."""

    def __init__(self, instance: str, wanted: str | None, memo: Path | None) -> None:
        self._instance = instance
        self._wanted = Subnet(wanted) if wanted else None
        self._memo = memo
        self._freed: list[Subnet] = []
        self._last = ""
        with suppress(ValueError):
            self._last = str(Subnet(read_note(memo)))

    def pick(
        self, need: int, taken: Collection[Subnet], *, former: Collection[Subnet] = (), wider_than: int = 0
    ) -> Iterator[Subnet]:
        """Yield free subnets with at least *need* addresses, then those of the usual size; none up to *wider_than*.

        While *former*, the network that all apps shared, fills OTON_SUBNET, they come from elsewhere.
        """
        wanted = self._wanted
        is_free = wanted is not None and not any(each.overlaps(wanted) for each in former)
        spaces = (wanted,) if wanted is not None and is_free else POOL
        usual = usual_prefix(spaces[0])
        for prefix in sorted({usual, min(usual, prefix_for(need))}):
            if 1 << (32 - prefix) > wider_than:
                yield from self._longest_free(pick_subnets(spaces, prefix, taken, self._instance, self._last))

    def _longest_free(self, found: Iterable[Subnet]) -> Iterator[Subnet]:
        """Yield those that were not freed lately, and then the others as they were freed."""
        late: list[tuple[int, Subnet]] = []
        for subnet in found:
            at = max((number for number, each in enumerate(self._freed) if each.overlaps(subnet)), default=-1)
            if at < 0:
                yield subnet
            else:
                late.append((at, subnet))
        yield from (subnet for _, subnet in sorted(late))

    def freed(self, subnet: Subnet) -> None:
        """Note that nobody has this one any more."""
        self._freed = [*(each for each in self._freed if each != subnet), subnet][-LATELY:]

    def note(self, given: Subnet) -> None:
        """Remember that this one was given: all others come before it is given again."""
        self._last = str(given)
        write_note(self._memo, self._last)

    def advice(self) -> str:
        """Return what a person can do when none is free."""
        if self._wanted is None:
            return "10.100.0.0 to 10.254.255.255 are in use on this machine; set OTON_SUBNET to a free range"
        return f"OTON_SUBNET is {self._wanted}; set it to a wider free range, or delete apps that nobody needs"


def usual_prefix(space: Subnet) -> int:
    """Return the size of an app's network out of *space*: /24 from a /18 or wider, /26 from a /20, at least a /28."""
    return min(NARROWEST, max(USUAL, space.prefixlen + SHARE))


def prefix_for(need: int) -> int:
    """Return the narrowest prefix with *need* addresses beside those of network, gateway and broadcast."""
    return max(WIDEST, 32 - (need + 2).bit_length())


def pick_subnets(
    spaces: Sequence[Subnet], prefix: int, taken: Iterable[Subnet], instance: str, after: str = ""
) -> Iterator[Subnet]:
    """Yield the free subnets of *spaces* (all equally wide) in turn, from behind *after* on.

    Without *after* the first one is at a place of the instance's own, so that two that start together differ.
    """
    each = 1 << max(0, prefix - spaces[0].prefixlen)
    step = 1 << (32 - prefix)
    held = [(int(one.network_address), int(one.broadcast_address)) for one in taken]
    start = _index(spaces, step, each, after) or sum(instance.encode()) % len(spaces) * each
    for number in range(start, start + each * len(spaces)):
        space, at = divmod(number % (each * len(spaces)), each)
        first = int(spaces[space].network_address) + at * step
        last = first + step - 1
        is_inside = last <= int(spaces[space].broadcast_address)
        if is_inside and not any(low <= last and first <= high for low, high in held):
            yield Subnet((first, prefix))


def _index(spaces: Sequence[Subnet], step: int, each: int, after: str) -> int:
    """Return the place behind *after*; 0 where it lies in none of the spaces."""
    if after:
        last = int(Subnet(after).broadcast_address)
        for number, space in enumerate(spaces):
            if int(space.network_address) <= last <= int(space.broadcast_address):
                return number * each + (last - int(space.network_address)) // step + 1
    return 0


def subnets_of(networks: Iterable[Mapping[str, Any]]) -> Iterator[Subnet]:
    """Yield the IPv4 subnets of the engine's networks."""
    for network in networks:
        for config in (network.get("IPAM") or {}).get("Config") or ():
            if "." in config.get("Subnet", ""):
                yield Subnet(config["Subnet"], strict=False)


def host_routes(place: Path = Path("/proc/net/route")) -> Iterator[Subnet]:
    """Yield the destinations of this host's own routes, but for the default one."""
    try:
        lines = place.read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        target, mask = (int.from_bytes(bytes.fromhex(fields[at]), "little") for at in (1, 7))
        if mask:
            yield Subnet((target, mask.bit_count()))


def is_bridge_reachable(info: Mapping[str, Any], is_local: bool, subnet: Subnet | None) -> bool:
    """Say whether this host can send to containers' own addresses."""
    rootless = any("rootless" in option for option in info.get("SecurityOptions") or ())
    desktop = "docker desktop" in str(info.get("OperatingSystem", "")).lower()
    if not sys.platform.startswith("linux") or not is_local or rootless or desktop or subnet is None:
        return False
    # We may run in a container ourselves, with the engine's socket mounted: then there is no route.
    return any(route.prefixlen and subnet.subnet_of(route) for route in host_routes())
