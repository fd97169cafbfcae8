"""What the publisher knows of each worker: what it confirmed, what it reported, how long it has owed an answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.wire.lines import LineSocket

CONFIRM_S = 2.0
"""A worker that has not confirmed a table by then is killed and replaced."""

PER_APP_S = 0.002
"""What each app of a push adds to that: reading a table of thousands takes seconds on a busy machine."""

REGISTER_S = 5.0
"""The same for one that is on the roster and has not registered: starting takes longer than answering."""

_LATE_S = 0.5
_DRAINED_MOST = 20_000


@dataclass(slots=True)
class Peer:
    """One worker, on the roster or connected or both."""

    worker: int
    line: LineSocket | None = None
    """Its connection; None: not registered."""
    confirmed: int = -1
    """Version it serves from."""
    first: int | None = None
    """Version of the first table it ever had."""
    asked: bool = False
    """It has a newer table than we, and we asked for it."""
    owes_since: float | None = None
    """Since when (monotonic) an answer is due; None: none is."""
    allowance_s: float = CONFIRM_S
    """How long it may owe what it owes."""
    may_be_behind: bool = True
    """A change was sent that may not have fitted: it may ask for the whole table once."""
    hellos: int = 0
    """How often it registered since it last confirmed something."""
    drained: dict[tuple[str, str], int] = field(default_factory=dict)
    """(app, upstream) -> version under which it had nothing open there."""
    meters: Mapping[str, Any] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    """Apps that it cannot serve as published and answers with 503, and why."""

    @property
    def is_synced(self) -> bool:
        """It is registered, and holds nothing that we do not know."""
        return self.line is not None and not self.asked

    def expect(self, apps: int, now: float) -> None:
        """Note that it owes the confirmation of a push of so many apps."""
        if self.owes_since is None:
            self.owes_since, self.allowance_s = now, CONFIRM_S
        self.allowance_s += apps * PER_APP_S

    def note_drained(self, app: str, upstream: str, version: int) -> None:
        """Note that it had nothing open on an upstream under *version*; the oldest of too many reports is forgotten."""
        self.drained[(app, upstream)] = version
        while len(self.drained) > _DRAINED_MOST:
            del self.drained[next(iter(self.drained))]

    def has_drained(self, app: str, upstream: str, since: int) -> bool:
        """Say whether it has nothing open on an upstream that may not be picked since version *since*."""
        never_could = self.first is not None and self.first >= since
        return self.line is not None and (never_could or self.drained.get((app, upstream), -1) >= since)


class Peers:
    """All workers."""

    def __init__(self) -> None:
        self._peers: dict[int, Peer] = {}
        self.roster: frozenset[int] | None = None
        """The live workers; None until the supervisor has told."""
        self.pids: Mapping[int, int] | None = None
        """Their processes, of those that are born; None: the supervisor does not tell."""
        self._checked: float | None = None

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self._peers.values()))

    def rostered(self) -> list[Peer]:
        """Return the workers of the roster, sorted."""
        return [self._peers[number] for number in sorted(self.roster or ())]

    def connected(self) -> list[Peer]:
        """Return the workers that pushes go to."""
        return [peer for peer in self if peer.is_synced]

    def get(self, number: int) -> Peer:
        """Return the worker, known or new."""
        return self._peers.setdefault(number, Peer(number))

    def forget(self, apps: Collection[str]) -> None:
        """Forget what workers reported of apps that have left the table."""
        for peer in self:
            for key in [key for key in peer.drained if key[0] in apps]:
                del peer.drained[key]

    def is_expected(self, worker: int, pid: int | None) -> bool | None:
        """Say whether process *pid* is the worker of that number; None: it may be, and is not known yet."""
        if self.roster is None:
            return None
        if worker not in self.roster:
            return False
        if self.pids is None or pid is None:
            return True
        return None if worker not in self.pids else self.pids[worker] == pid

    def set_roster(self, numbers: Iterable[int], now: float, pids: Mapping[int, int] | None = None) -> list[Peer]:
        """Take a new roster; return the workers that have gone."""
        before = self.roster or frozenset()
        self.roster, self.pids = frozenset(numbers), pids
        for number in self.roster - before:
            peer = self.get(number)
            if peer.line is None:
                peer.owes_since = now
        gone = [
            peer for peer in self if peer.worker not in self.roster and (peer.worker in before or peer.line is None)
        ]
        for peer in gone:
            del self._peers[peer.worker]
        return gone

    def disconnect(self, peer: Peer, now: float) -> None:
        """Note that a worker's connection ended; it has to come back, or to leave the roster."""
        peer.line, peer.asked = None, False
        peer.owes_since = now if peer.owes_since is None else peer.owes_since
        if self.roster is not None and peer.worker not in self.roster:
            self._peers.pop(peer.worker, None)

    def least_confirmed(self, newest: int) -> int:
        """Return the version that every worker has confirmed; *newest* where there is no worker, -1 if unknown."""
        if self.roster is None:
            return -1
        return min((peer.confirmed if peer.is_synced else -1 for peer in self.rostered()), default=newest)

    def are_all_synced(self) -> bool:
        """Say whether the roster is known and each worker on it registered."""
        return self.roster is not None and all(peer.is_synced for peer in self.rostered())

    def overdue(self, now: float) -> list[Peer]:
        """Return rostered workers that owe an answer for too long, each once per limit."""
        # We may have been stopped ourselves, and their answers be unread: that time is not theirs.
        late_s = 0.0 if self._checked is None else max(0.0, now - self._checked - _LATE_S)
        self._checked = now
        found = []
        for peer in self.rostered():
            if peer.owes_since is None:
                continue
            peer.owes_since += late_s
            if now - peer.owes_since > (REGISTER_S if peer.line is None else peer.allowance_s):
                peer.owes_since = now
                found.append(peer)
        return found
