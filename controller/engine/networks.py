"""
The replicas' network: found by our label or made on a free subnet, and how the proxy reaches what is on it.

With mode `address` the proxy goes to a replica's own address; with `port` to a port published on 127.0.0.1,
for engines whose bridges this host cannot reach (Docker Desktop, rootless, a remote one).
"""

from __future__ import annotations

import ipaddress
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import docker.errors
import structlog
from docker.types import IPAMConfig, IPAMPool

from controller.engine import labels
from controller.engine.addresses import Addresses
from controller.engine.calls import READ_S, Calls
from controller.engine.translate import Place
from controller.errors import Refused, Retry

Upstream = Literal["auto", "address", "port"]
Subnet = ipaddress.IPv4Network

POOL = tuple(Subnet(f"10.{second}.0.0/16") for second in (*range(211, 255), *range(100, 211)))
"""Where a subnet is picked from: ranges that home and office networks seldom use, a /20 of each."""

_log = structlog.get_logger("engine")


@dataclass(frozen=True, slots=True)
class Network:
    """Our network as it is on the engine now."""

    id: str
    name: str
    mode: Literal["address", "port"]


class Networks:
    """Keeps our network there and gives replicas their place on it; safe for several threads."""

    def __init__(
        self,
        calls: Calls,
        instance: str,
        *,
        name: str,
        subnet: str | None,
        upstream: Upstream,
        memo: Path | None = None,
    ) -> None:
        self._calls = calls
        self._instance = instance
        self._wanted = name
        self._subnet = subnet
        self._upstream = upstream
        self._network: Network | None = None
        self._lock = threading.Lock()
        self.addresses = Addresses(memo)
        self._is_settled = False
        self.look_around: Callable[[], object] = lambda: None
        """Lets whoever sees containers tell `addresses` of all that they hold."""

    def name(self) -> str:
        """Return the network's name; it is looked up, but not made, if need be."""
        if self._network is None:
            with self._held():
                found = self._find()
                if found is not None:
                    self._network = self._take_up(found)
        return self._network.name if self._network else self._wanted

    def mode(self) -> Literal["address", "port"] | None:
        """Return how replicas are reached; None while the network was never needed."""
        self.name()
        return self._network.mode if self._network else None

    def place(self) -> Place:
        """Return where the next replica goes, with an address of its own where we give them."""
        network = self._ensure()
        if network.mode == "port":
            return Place(network=network.name, address=None)
        if not self._is_settled:
            # After a restart of ours: an exited container's address is taken, though nobody uses it now.
            self.look_around()
            self._is_settled = True
        return Place(network=network.name, address=self.addresses.take())

    def forget(self) -> None:
        """Look the network up again next time: the engine said that it is not there."""
        self._network = None

    def check_extra(self, names: Sequence[str]) -> None:
        """Raise Refused unless each of the spec's own networks exists."""
        for name in names:
            with self._calls.doing(f"look at network {name}") as client:
                if not any(each["Name"] == name for each in client.networks(names=[name])):
                    raise Refused(f"networks: {name} does not exist; make it with `docker network create {name}`")

    def _ensure(self) -> Network:
        known = self._network
        if known is not None:
            return known
        with self._held():
            # Another thread may have made it while this one waited: then it is found.
            made = self._network = self._take_up(self._find() or self._make())
        return made

    @contextmanager
    def _held(self) -> Iterator[None]:
        # While the engine is frozen one thread waits in here for its call; the others must not wait as long again.
        if not self._lock.acquire(timeout=READ_S):
            raise Retry(f"network {self._wanted} is being looked up; the container engine is slow")
        try:
            yield
        finally:
            self._lock.release()

    def _find(self) -> dict[str, Any] | None:
        with self._calls.doing("list networks") as client:
            ours = client.networks(filters={"label": [f"{labels.INSTANCE}={self._instance}"]})
        named = [each for each in ours if _is_named(each["Name"], self._wanted)]
        return min(named, key=lambda each: (len(each["Name"]), each["Name"]), default=None)

    def _take_up(self, found: Mapping[str, Any]) -> Network:
        config = ((found.get("IPAM") or {}).get("Config") or [{}])[0]
        subnet = config.get("Subnet", "")
        if self._subnet and subnet and Subnet(self._subnet) != Subnet(subnet):
            _log.warning(
                "network keeps its subnet",
                network=found["Name"],
                subnet=subnet,
                wanted=self._subnet,
                hint=f"remove its containers and `docker network rm {found['Name']}` to have it made anew",
            )
        mode = self._pick_mode(subnet)
        if mode == "address":
            self.addresses.adopt(subnet, config.get("Gateway", ""))
        return Network(found["Id"], found["Name"], mode)

    def _pick_mode(self, subnet: str) -> Literal["address", "port"]:
        if self._upstream != "auto":
            return self._upstream
        with self._calls.doing("ask what kind of engine it is") as client:
            info = client.info()
        return "address" if is_bridge_reachable(info, self._calls.is_local, subnet) else "port"

    def _make(self) -> dict[str, Any]:
        with self._calls.doing(f"make network {self._wanted}") as client:
            existing = client.networks()
            names = {each["Name"] for each in existing}
            name = next(each for each in _names(self._wanted) if each not in names)
            taken = [*_subnets(existing), *_routes()]
            for subnet in [Subnet(self._subnet)] if self._subnet else pick_subnets(taken, self._instance):
                try:
                    client.create_network(
                        name,
                        driver="bridge",
                        ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=str(subnet))]),
                        labels={labels.INSTANCE: self._instance},
                        check_duplicate=True,
                    )
                except docker.errors.APIError as error:
                    if "overlap" not in str(error).lower():
                        raise
                    if self._subnet:
                        raise Refused(
                            f"OTON_SUBNET: {self._subnet} overlaps another network of this engine or host; take another"
                        ) from error
                    continue
                found = self._find()
                if found is not None:
                    return found
        raise Retry(f"no free subnet was found for network {self._wanted}; set OTON_SUBNET to one")


def pick_subnets(taken: Sequence[Subnet], instance: str) -> Iterator[Subnet]:
    """Yield free /20 subnets, starting at a place of the instance's own, so that two that start together differ."""
    start = sum(instance.encode()) % len(POOL)
    for wide in (*POOL[start:], *POOL[:start]):
        subnet = next(wide.subnets(new_prefix=20))
        if not any(subnet.overlaps(each) for each in taken):
            yield subnet


def is_bridge_reachable(info: Mapping[str, Any], is_local: bool, subnet: str) -> bool:
    """Say whether this host can send to containers' own addresses."""
    rootless = any("rootless" in option for option in info.get("SecurityOptions") or ())
    desktop = "docker desktop" in str(info.get("OperatingSystem", "")).lower()
    if not sys.platform.startswith("linux") or not is_local or rootless or desktop or not subnet:
        return False
    # We may run in a container ourselves, with the engine's socket mounted: then there is no route.
    return any(route.prefixlen and Subnet(subnet).subnet_of(route) for route in _routes())


def _names(wanted: str) -> Iterator[str]:
    yield wanted
    yield from (f"{wanted}-{number}" for number in range(2, 1000))


def _is_named(name: str, wanted: str) -> bool:
    return name == wanted or (name.startswith(f"{wanted}-") and name[len(wanted) + 1 :].isdecimal())


def _subnets(networks: Sequence[Mapping[str, Any]]) -> Iterator[Subnet]:
    for network in networks:
        for config in (network.get("IPAM") or {}).get("Config") or ():
            if "." in config.get("Subnet", ""):
                yield Subnet(config["Subnet"], strict=False)


def _routes() -> Iterator[Subnet]:
    """Yield the destinations of this host's own routes, but for the default one."""
    try:
        lines = Path("/proc/net/route").read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        target, mask = (int.from_bytes(bytes.fromhex(fields[at]), "little") for at in (1, 7))
        if mask:
            yield Subnet((target, mask.bit_count()))
