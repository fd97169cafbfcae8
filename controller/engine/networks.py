"""
A network for each app: found by our labels or made on a free subnet, and how the proxy reaches what is on it.

Only the app's own replicas and one-offs are on it, and this host, so the proxy. With mode `address` the proxy goes
to a replica's own address; with `port` to a port published on 127.0.0.1, for engines whose bridges this host cannot
reach (Docker Desktop, rootless, a remote one). Former versions made one network for all apps: what is on it serves
on there until it is replaced, and the network goes with the last of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import docker.errors
import structlog
from docker.types import IPAMConfig, IPAMPool

from controller.clock import steady_seconds
from controller.engine import labels
from controller.engine.addresses import Addresses
from controller.engine.calls import READ_S, Calls
from controller.engine.reading import networks_of
from controller.engine.subnets import Subnet, Subnets, host_routes, is_bridge_reachable, prefix_for, subnets_of
from controller.engine.translate import Place
from controller.errors import ControllerError, Refused, Retry

Upstream = Literal["auto", "address", "port"]
Mode = Literal["address", "port"]

PROMISED_S = 20.0
"""So long a network stays that a container was promised a place on, though none is seen there yet: above the 9 s in
which that container is made or given up."""

_log = structlog.get_logger("engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network of ours as it is on the engine."""

    id: str
    name: str
    app: str
    """Whose it is; "" for the one that former versions made for all."""
    subnet: Subnet | None
    mode: Mode
    addresses: Addresses

    @property
    def size(self) -> int:
        """How many addresses it has; 0 where the engine tells none."""
        return self.subnet.num_addresses if self.subnet else 0


Known = Mapping[str, Network]
"""Our networks by their engine's id."""


class Networks:
    """Keeps each app's network there and gives replicas their place on it; safe for several threads."""

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
        """Nothing is asked of the engine yet. Each network's name begins with *name*; *memo* is a folder for notes."""
        self._calls = calls
        self._instance = instance
        self._name = name
        self._subnets = Subnets(instance, subnet, memo / "subnet" if memo else None)
        self._upstream = upstream
        self._books_folder = memo / "addresses" if memo else None
        self._known: Known | None = None
        """None: they have to be looked up."""
        self._books: Known = {}
        """As they were when last looked up, with the addresses given on each."""
        self._cramped: set[tuple[str, int]] = set()
        """App and need for which no wider network could be had."""
        self._promised: dict[str, float] = {}
        self._lock = threading.Lock()
        self._is_settled = False
        self.look_around: Callable[[], object] = lambda: None
        """Lets whoever sees containers tell of all addresses that they hold."""

    def mode(self) -> Mode | None:
        """Return how replicas are reached; None while no network was ever needed."""
        return next((each.mode for each in self._look_up().values()), None)

    def shared(self) -> tuple[Network, ...]:
        """Return what is left of the network that former versions made for all apps."""
        return tuple(each for each in self._look_up().values() if not each.app)

    def place(self, app: str, replicas: int = 1) -> Place:
        """Return where the next container of *app* goes, with an address of its own where we give them."""
        # Twice as many while one release takes over from another, and a few one-offs.
        network = self._ensure(app, 2 * replicas + 4)
        self._promised[network.id] = steady_seconds()
        if network.mode == "port":
            return Place(network=network.name, address=None)
        if not self._is_settled:
            # After a restart of ours: an exited container's address is taken, though nobody uses it now.
            self.look_around()
            self._is_settled = True
        return Place(network=network.name, address=network.addresses.take())

    def bind(self, app: str, container: str, address: str) -> None:
        """Note that *container* holds *address* now or will when started again; heard before changes nothing."""
        for each in self._look_up().values():
            if each.app == app:
                each.addresses.bind(container, address)

    def give_back(self, app: str, address: str) -> None:
        """Take back an address that nobody holds."""
        for each in self._look_up().values():
            if each.app == app:
                each.addresses.give_back(address)

    def settle(self, present: frozenset[str], as_of: float) -> None:
        """Take back the addresses of containers that a list taken at *as_of* does not show."""
        for each in (self._known or {}).values():
            each.addresses.settle(present, as_of)

    def forget(self) -> None:
        """Look the networks up again next time: the engine said that one is not there."""
        self._known = None

    def check_extra(self, app: str, names: Sequence[str]) -> None:
        """Raise Refused unless each of the spec's own networks exists and is not another app's alone."""
        for name in names:
            with self._calls.doing(f"look at network {name}") as client:
                found = [each for each in client.networks(names=[name]) if each["Name"] == name]
            if not found:
                raise Refused(f"networks: {name} does not exist; make it with `docker network create {name}`")
            owner = next((each for each in map(self._owner, found) if each not in ("", app)), "")
            if owner:
                raise Refused(
                    f"networks: {name} is the network of app {owner} alone; make one for both with "
                    "`docker network create NAME` and write NAME under `networks` in both specs"
                )

    def retain(self, keep: Collection[str], list_containers: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        """Remove those that no container of ours is on, but for the one on which each app of *keep* gets its places."""
        with self._held():
            known = self._list()
            used = {name for each in list_containers() for name in networks_of(each)}
        needed = {network.id for app in keep if (network := _best(known, app)) is not None}
        for network in known.values():
            if network.name not in used and network.id not in needed:
                # One at a time: each takes a quarter of a second, and a new app must not wait for all of them.
                with self._held():
                    self._remove(network)

    def _remove(self, network: Network) -> None:
        if steady_seconds() - self._promised.get(network.id, float("-inf")) < PROMISED_S:
            return
        try:
            with self._calls.doing(f"remove network {network.name}") as client:
                client.remove_network(network.id)
        except ControllerError as error:
            _log.debug("network stays", network=network.name, why=str(error))  # a stranger may have joined it
            return
        _log.info("network removed", network=network.name, app=network.app)
        self._known = self._books = {key: each for key, each in self._books.items() if key != network.id}
        self._promised.pop(network.id, None)
        if network.subnet is not None:
            self._subnets.freed(network.subnet)

    def _owner(self, found: Mapping[str, Any]) -> str:
        ours = found.get("Labels") or {}
        return str(ours.get(labels.APP, "")) if labels.is_ours(ours, self._instance) else ""

    def _ensure(self, app: str, need: int) -> Network:
        known = _best(self._look_up(), app)
        if known is None or not self._is_enough(known, need):
            with self._held():
                # Another thread may have made it while this one waited.
                known = _best(self._list(), app)
                if known is None:
                    return self._make(app, need)
                if not self._is_enough(known, need):
                    return self._widen(known, need)
        return known

    def _is_enough(self, network: Network, need: int) -> bool:
        is_wide = network.size >= 1 << (32 - prefix_for(need))
        return is_wide or network.mode == "port" or (network.app, need) in self._cramped

    def _widen(self, network: Network, need: int) -> Network:
        """Return a wider network for the app, or its own where there is none to be had."""
        with suppress(Refused):
            return self._make(network.app, need, wider_than=network.size)
        self._cramped.add((network.app, need))
        return network

    @contextmanager
    def _held(self) -> Iterator[None]:
        # While the engine is frozen one thread waits in here for its call; the others must not wait as long again.
        if not self._lock.acquire(timeout=READ_S):
            raise Retry("the apps' networks are being looked up; the container engine is slow")
        try:
            yield
        finally:
            self._lock.release()

    def _look_up(self) -> Known:
        known = self._known
        if known is None:
            with self._held():
                known = self._known or self._list()
        return known

    def _list(self) -> Known:
        """Look our networks up; one that is known already keeps its book of addresses."""
        with self._calls.doing("list networks") as client:
            found = client.networks(filters={"label": [f"{labels.INSTANCE}={self._instance}"]})
            info = client.info() if found and self._upstream == "auto" else {}
        known = {each["Id"]: self._take_up(each, info) for each in found}
        if known.keys() - self._books.keys():
            self._is_settled = False  # who is on it is not known yet
        self._known = self._books = known
        return known

    def _take_up(self, found: Mapping[str, Any], info: Mapping[str, Any]) -> Network:
        if (before := self._books.get(found["Id"])) is not None:
            return before
        config = ((found.get("IPAM") or {}).get("Config") or [{}])[0]
        text, app = config.get("Subnet", ""), (found.get("Labels") or {}).get(labels.APP, "")
        subnet = Subnet(text, strict=False) if "." in text else None
        mode = self._pick_mode(subnet, info)
        addresses = Addresses(self._books_folder / app if self._books_folder and app else None)
        if mode == "address" and subnet is not None:
            addresses.adopt(text, config.get("Gateway", ""))
        return Network(id=found["Id"], name=found["Name"], app=app, subnet=subnet, mode=mode, addresses=addresses)

    def _pick_mode(self, subnet: Subnet | None, info: Mapping[str, Any]) -> Mode:
        if self._upstream != "auto":
            return self._upstream
        return "address" if is_bridge_reachable(info, self._calls.is_local, subnet) else "port"

    def _make(self, app: str, need: int, wider_than: int = 0) -> Network:
        with self._calls.doing(f"make a network for {app}") as client:
            existing = client.networks()
            names = {each["Name"] for each in existing}
            name = next(each for each in self._names(app) if each not in names)
            former = [each.subnet for each in self._list().values() if not each.app and each.subnet is not None]
            taken = [*subnets_of(existing), *host_routes()]
            for subnet in self._subnets.pick(need, taken, former=former, wider_than=wider_than):
                try:
                    made = client.create_network(
                        name,
                        driver="bridge",
                        ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=str(subnet))]),
                        labels={labels.INSTANCE: self._instance, labels.APP: app},
                        check_duplicate=True,
                    )["Id"]
                except docker.errors.APIError as error:
                    if "overlap" not in str(error).lower():
                        raise
                    continue  # another instance was quicker
                self._subnets.note(subnet)
                is_settled = self._is_settled
                network = self._list()[made]
                self._is_settled = is_settled  # nobody is on a new one
                return network
        raise Refused(f"no free addresses are left for a network of {app}: {self._subnets.advice()}")

    def _names(self, app: str) -> Iterator[str]:
        yield f"{self._name}-{app}"
        yield from (f"{self._name}-{app}-{number}" for number in range(2, 1000))


def _best(known: Known, app: str) -> Network | None:
    """Return the app's widest network."""
    mine = [each for each in known.values() if each.app == app]
    return max(mine, key=lambda each: (each.size, each.name), default=None)
