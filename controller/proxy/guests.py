"""How many connections each client address has open: in this worker, and in those with which it shares memory."""

from __future__ import annotations

from controller.proxy.tallies import Tallies


class _Guest:
    __slots__ = ("count", "row")

    def __init__(self, row: int) -> None:
        self.row = row
        """Where all workers count it; it stays there while anything is open. -1: it is counted here alone."""
        self.count = 0


class Guests:
    """The connections of one worker by client address."""

    def __init__(self, tallies: Tallies | None) -> None:
        self._tallies = tallies
        self._here: dict[str, _Guest] = {}

    def arrive(self, address: str, most: float) -> bool:
        """Count one more connection of *address*; False, and it is not counted, where *most* are open already."""
        tallies = self._tallies
        guest = self._here.get(address)
        if guest is None:
            guest = _Guest(tallies.find(f"client {address}") if tallies is not None else -1)
        count = guest.count
        others = tallies.set(guest.row, count + 1) if tallies is not None and guest.row >= 0 else 0
        if count + others >= most:
            self._share(guest)
            return False
        guest.count = count + 1
        self._here[address] = guest
        return True

    def leave(self, address: str) -> None:
        """Forget a connection that was counted."""
        guest = self._here.get(address)
        if guest is None:
            return
        guest.count -= 1
        self._share(guest)
        if not guest.count:
            del self._here[address]

    def _share(self, guest: _Guest) -> None:
        if self._tallies is not None and guest.row >= 0:
            self._tallies.set(guest.row, guest.count)
