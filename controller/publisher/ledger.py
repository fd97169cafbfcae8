"""What is published, what of it is confirmed, and what is on its way between the two."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from controller.publisher.leaving import Leaving, follow_change
from controller.publisher.peers import Peers
from controller.publisher.snapshot import Snapshot
from controller.routing.table import AppRoutes

Changes = Mapping[str, AppRoutes | None]


class Ledger:
    """Versions in their order. Not safe for several threads; its owner holds a lock."""

    def __init__(self, snapshot: Snapshot, sticky_key: str) -> None:
        self.table = replace(snapshot.table, sticky_key=sticky_key)
        self.leaving: Leaving = {app: dict(entry) for app, entry in snapshot.leaving.items()}
        self.confirmed: dict[str, AppRoutes] = {}
        # What was published before our start counts as confirmed once all workers have shown that they have it.
        self._pending: deque[tuple[int, Changes]] = deque([(self.table.version, dict(self.table.apps))])

    @property
    def is_settled(self) -> bool:
        """Say whether everything published is confirmed."""
        return not self._pending

    def draft(self, version: int, changes: Changes) -> Snapshot:
        """Return how it would be with *changes* in force as *version*."""
        apps = {app: routes for app, routes in {**self.table.apps, **changes}.items() if routes is not None}
        table = replace(self.table, version=version, apps=apps)
        return Snapshot(table=table, leaving=follow_change(self.leaving, changes, self.table.apps, version))

    def enter(self, draft: Snapshot, changes: Changes) -> None:
        """Publish a draft."""
        self.table = draft.table
        self.leaving = {app: dict(entry) for app, entry in draft.leaving.items()}
        self._pending.append((draft.table.version, changes))
        self._forget_gone()

    def settle(self, least: int) -> set[str]:
        """Take everything up to version *least* as confirmed; return the apps that this concerns."""
        concerned: set[str] = set()
        while self._pending and self._pending[0][0] <= least:
            for app, routes in self._pending.popleft()[1].items():
                concerned.add(app)
                if routes is None:
                    self.confirmed.pop(app, None)
                else:
                    self.confirmed[app] = routes
        self._forget_gone()
        return concerned

    def _forget_gone(self) -> None:
        """Forget apps that no worker has in its table any more: nobody asks what is open there."""
        for app in self.leaving.keys() - self.table.apps.keys():
            if not any(app in changes for _, changes in self._pending):
                del self.leaving[app]

    def drained(self, app: str, peers: Peers) -> frozenset[str]:
        """Return the app's upstreams that may not be picked any more and on which no worker has anything open."""
        if peers.roster is None:
            return frozenset()
        counted = peers.rostered()
        return frozenset(
            upstream
            for upstream, since in self.leaving.get(app, {}).items()
            if all(peer.has_drained(app, upstream, since) for peer in counted)
        )
