"""
Which replica gets which address of its app's network: the least recently used free one.

A request that was on its way to a removed replica must find nobody there, never one that knows nothing of it.
"""

from __future__ import annotations

import ipaddress
import threading
from contextlib import suppress
from pathlib import Path

from controller.clock import steady_seconds
from controller.engine.notes import read_note, write_note
from controller.errors import Retry

PENDING_S = 120.0
"""An address whose create call broke off is kept for this long: the engine may still have done it."""


MOST = 65_534
"""So many addresses of a wide subnet are used; more than any one bridge can carry."""


class Addresses:
    """Gives out the addresses of one network; safe for several threads."""

    def __init__(self, memo: Path | None = None) -> None:
        self._memo = memo
        self._subnet = ""
        self._free: dict[int, None] = {}
        """In the order in which they are given."""
        self._holder: dict[int, str] = {}
        """Address -> container id, or "" while its container is being made."""
        self._since: dict[int, float] = {}
        self._lock = threading.Lock()

    def adopt(self, subnet: str, gateway: str) -> None:
        """Give out addresses of *subnet* from now on; the same as before changes nothing."""
        network = ipaddress.ip_network(subnet)
        first, end = int(network.network_address) + 1, int(network.broadcast_address)
        taken = int(ipaddress.ip_address(gateway)) if gateway else first
        with self._lock:
            if self._subnet == subnet:
                return
            hosts = range(first, min(end, first + MOST))
            last = self._remembered()
            at = hosts.index(last) + 1 if last in hosts else 0
            self._subnet, self._holder, self._since = subnet, {}, {}
            self._free = dict.fromkeys(number for number in (*hosts[at:], *hosts[:at]) if number != taken)

    def take(self) -> str:
        """Reserve the free address that was used longest ago, or never."""
        with self._lock:
            now = steady_seconds()
            pending = [each for each, who in self._holder.items() if not who]
            for number in [each for each in pending if now - self._since[each] > PENDING_S]:
                self._release(number)
            if not self._free:
                raise Retry(
                    f"all {len(self._holder)} addresses of {self._subnet} are in use; with a wider OTON_SUBNET "
                    "the app's network would be wider"
                )
            chosen = next(iter(self._free))
            del self._free[chosen]
            self._holder[chosen], self._since[chosen] = "", now
            address = str(ipaddress.ip_address(chosen))
            write_note(self._memo, address)
        return address

    def bind(self, container: str, address: str) -> None:
        """Note that *container* holds *address* now or will when started again."""
        if not address:
            return
        number = int(ipaddress.ip_address(address))
        with self._lock:
            if self._holder.get(number) == container:
                return
            if self._free.pop(number, 0) is None or number in self._holder:
                self._holder[number], self._since[number] = container, steady_seconds()

    def give_back(self, address: str) -> None:
        """Take back an address that nobody holds; it is given again when all others were used since."""
        with self._lock:
            self._release(int(ipaddress.ip_address(address)))

    def settle(self, present: frozenset[str], as_of: float) -> None:
        """Take back the addresses of containers that a list taken at *as_of* does not show."""
        with self._lock:
            for number, container in list(self._holder.items()):
                if container and container not in present and self._since[number] < as_of:
                    self._release(number)

    def _release(self, number: int) -> None:
        self._since.pop(number, None)
        if self._holder.pop(number, None) is not None:
            self._free[number] = None

    def _remembered(self) -> int:
        with suppress(ValueError):
            return int(ipaddress.ip_address(read_note(self._memo)))
        return 0
