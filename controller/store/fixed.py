"""Fixed routes: claims of the public side that lead to things which Docker does not run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import delete, select

from controller.errors import Refused
from controller.store.codec import decode, encode
from controller.store.schema import FixedRow
from controller.store.statements import put_row
from controller.store.thread import StoreThread, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedRoute:
    """One fixed route, as it was asked for. Whether its targets are allowed is for others to say."""

    name: str
    host: str | None = None
    """Exact, `*.suffix`, or None for any."""
    path: str = "/"
    strip: bool = False
    targets: tuple[str, ...] = ()
    """`host:port` each; names are resolved by those who connect."""
    health_path: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    """What the proxy should know of it besides, by name."""
    by: str = ""
    at: float = 0.0
    """Wall seconds when it was set."""


class FixedRoutes:
    """All fixed routes, in memory and on the disk."""

    def __init__(self, thread: StoreThread) -> None:
        self._thread = thread
        self._routes: Mapping[str, FixedRoute] = {}
        thread.on_open(self._read_all)

    def list(self) -> tuple[FixedRoute, ...]:
        """Return all fixed routes by name."""
        return tuple(route for _, route in sorted(self._routes.items()))

    def save(self, route: FixedRoute) -> None:
        """Add *route*, or replace the one of its name; Refused if another has its host and path."""
        self._thread.call(lambda tx: self._save(tx, route))

    def remove(self, name: str) -> None:
        """Take the route of that name away; Refused if there is none."""
        self._thread.call(lambda tx: self._remove(tx, name))

    def _save(self, tx: Transaction, route: FixedRoute) -> None:
        for other in self._routes.values():
            if other.name != route.name and (other.host, other.path) == (route.host, route.path):
                raise Refused(f"{route.host or 'any host'}{route.path} belongs to fixed route {other.name} already")
        values = {"name": route.name, "document": encode(route)}
        tx.connection.execute(put_row(FixedRow), values)
        tx.afterwards(lambda: self._replace_all({**self._routes, route.name: route}))

    def _remove(self, tx: Transaction, name: str) -> None:
        if name not in self._routes:
            raise Refused(f"fixed route {name}: no such route")
        tx.connection.execute(delete(FixedRow).where(FixedRow.name == name))
        tx.afterwards(lambda: self._replace_all({one: r for one, r in self._routes.items() if one != name}))

    def _read_all(self, tx: Transaction) -> None:
        rows = tx.connection.scalars(select(FixedRow.document))
        found = [decode(FixedRoute, text) for text in rows]
        tx.afterwards(lambda: self._replace_all({route.name: route for route in found}))

    def _replace_all(self, routes: Mapping[str, FixedRoute]) -> None:
        self._routes = routes
