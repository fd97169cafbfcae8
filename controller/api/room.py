"""
How many connections the API holds at once, counted where they are accepted: before TLS, before a head, before a token.

Without this whoever reaches OTON_API could use up the controller's descriptors by saying nothing, and with them the
socket, the commands and the healing.
"""

from __future__ import annotations

import ipaddress
import resource
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

RESERVE = 256
"""Descriptors that are left for the engine, the workers, files and whatever else the controller does."""
TCP_MOST = 512
"""Connections on OTON_API at once, where the process may have descriptors enough."""
LOCAL_MOST = 256
"""Connections on the socket at once, likewise; those on OTON_API take nothing from them."""
LEAST = 32
KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""A client that vanished without a word is found out within a minute."""


class Room:
    """Places for connections, of which one client address has at most *share*."""

    def __init__(self, most: int, share: int) -> None:
        self._most, self._share = most, share
        self._taken: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._taken.total()

    def enter(self, client: str) -> bool:
        """Take a place for *client*; False where there is none."""
        if len(self) >= self._most or self._taken[client] >= self._share:
            return False
        self._taken[client] += 1
        return True

    def leave(self, client: str) -> None:
        """Give a place back."""
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]


def room_for(family: int, descriptors: int | None = None) -> Room:
    """Return the room of a listening socket, cut to what the process may open."""
    soft = descriptors if descriptors is not None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    spare = soft - RESERVE if soft != resource.RLIM_INFINITY else 4 * TCP_MOST
    if family == socket.AF_UNIX:
        most = min(LOCAL_MOST, max(LEAST, spare // 4))
        return Room(most, most)
    most = min(TCP_MOST, max(LEAST, spare // 2))
    return Room(most, most // 2)


class Counted(socket.socket):
    """A connection that gives its place back when it is closed."""

    _leave: Callable[[], None] | None = None

    def counted_by(self, leave: Callable[[], None]) -> Counted:
        """Have *leave* called once, when this is closed."""
        self._leave = leave
        return self

    def close(self) -> None:
        """Close it and give its place back."""
        super().close()
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def __del__(self) -> None:
        self.close()


class Entrance(socket.socket):
    """A listening socket that turns newcomers away once its room is full."""

    room: Room

    def accept(self) -> tuple[socket.socket, Any]:
        """Return a new connection; ConnectionAbortedError for one that was turned away."""
        found, address = super().accept()
        client = client_of(address)
        if not self.room.enter(client):
            found.close()
            raise ConnectionAbortedError
        counted = Counted(found.family, found.type, found.proto, fileno=found.detach())
        counted.counted_by(lambda: self.room.leave(client))
        if counted.family != socket.AF_UNIX:
            counted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE:
                counted.setsockopt(socket.IPPROTO_TCP, option, value)
        return counted, address


def with_room(listener: socket.socket, room: Room | None = None) -> Entrance:
    """Return the same listening socket with a room; the one given is not to be used any more."""
    entrance = Entrance(listener.family, listener.type, listener.proto, fileno=listener.detach())
    entrance.room = room or room_for(entrance.family)
    entrance.setblocking(False)
    return entrance


def client_of(address: Any) -> str:
    """Return whom a connection counts for: an IPv4 address, an IPv6 network of 64 bits, or the machine itself."""
    if not isinstance(address, tuple):
        return "local"
    found = ipaddress.ip_address(str(address[0]).partition("%")[0])
    plain = getattr(found, "ipv4_mapped", None) or found
    if plain.is_loopback:
        return "loopback"
    if plain.version == 6:
        return str(ipaddress.ip_network((plain, 64), strict=False))
    return str(plain)
