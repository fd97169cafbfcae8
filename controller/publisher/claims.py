"""Who has which host and path in the table: two apps never have the same."""

from __future__ import annotations

from collections.abc import Mapping

from controller.errors import Refused, Taken
from controller.routing.match import BadTarget, rule_host, rule_path
from controller.routing.table import AppRoutes

Claim = tuple[str, str]
"""Host and path as they are compared."""


class ClaimIndex:
    """Every claim of the published table, with its owner."""

    def __init__(self) -> None:
        self._owner: dict[Claim, str] = {}
        self._claims: dict[str, frozenset[Claim]] = {}

    def check(self, changes: Mapping[str, AppRoutes | None]) -> dict[str, frozenset[Claim]]:
        """Return the claims of *changes*; Taken where one belongs to an app that keeps it."""
        wanted = {app: _claims_of(routes) for app, routes in sorted(changes.items())}
        taken: dict[Claim, str] = {}
        for app, claims in wanted.items():
            for claim in sorted(claims):
                owner = self._owner.get(claim, app)
                if owner not in wanted and owner != app:
                    raise Taken(_say(app, claim, owner))
                if taken.setdefault(claim, app) != app:
                    raise Taken(_say(app, claim, taken[claim]))
        return wanted

    def take(self, wanted: Mapping[str, frozenset[Claim]]) -> None:
        """Enter what `check` returned."""
        for app in wanted:
            for claim in self._claims.pop(app, frozenset()):
                del self._owner[claim]
        for app, claims in wanted.items():
            if claims:
                self._claims[app] = claims
                self._owner.update(dict.fromkeys(claims, app))


def _claims_of(routes: AppRoutes | None) -> frozenset[Claim]:
    if routes is None:
        return frozenset()
    try:
        return frozenset((rule_host(rule), rule_path(rule)) for rule in routes.rules)
    except BadTarget as error:
        raise Refused(f"{routes.app}: a route cannot be published: {error}") from error


def _say(app: str, claim: Claim, owner: str) -> str:
    host, path = claim
    return f"{app}: route {host or 'any host'}{path or '/'} belongs to app {owner}"
