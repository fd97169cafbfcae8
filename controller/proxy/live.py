"""The table in force in a worker, compiled, with the answers that its matcher gave lately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from controller.proxy.app import App
from controller.routing.entries import shut_where_unfit
from controller.routing.match import Match, Matcher
from controller.routing.table import Table

_MATCHES = 4096
_KEPT_PATH_BYTES = 256


@dataclass(frozen=True, slots=True)
class Live:
    """A table in force; a request takes the reference once."""

    table: Table
    matcher: Matcher
    apps: dict[str, App]
    found: dict[tuple[str, bytes], Match | None] = field(default_factory=dict)
    """Answers of the matcher, since the same few pages are asked for most."""

    def find(self, host: str, target: bytes) -> Match | None:
        """Return the match for a host and a target in origin form; raises BadTarget."""
        path = target.partition(b"?")[0] if b"?" in target else target
        key = (host, path)
        try:
            return self.found[key]
        except KeyError:
            match = self.matcher.find(host, path.decode("latin-1"))
        if len(self.found) >= _MATCHES:
            self.found.clear()
        if len(path) <= _KEPT_PATH_BYTES:
            self.found[key] = match
        return match


def shut_unfit(table: Table, changed: Sequence[str]) -> Table:
    """Return *table* with those of the *changed* entries shut that cannot be served."""
    found = {name: shut_where_unfit(table.apps[name]) for name in changed if name in table.apps}
    shut = {name: routes for name, routes in found.items() if routes is not table.apps[name]}
    return replace(table, apps={**table.apps, **shut}) if shut else table
