"""
Who has which host and path in the table, and how they pass on.

Two apps never have the same. What one lets go and another waits for changes hands in one version, so that no
request finds it ownerless; a host that is reserved is its owner's with every path.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from controller.errors import Refused
from controller.plan.claims import Claim, claim_of
from controller.routing.match import BadTarget
from controller.routing.table import AppRoutes, Rule

Changes = Mapping[str, AppRoutes | None]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One app's rules by claim: those in force, and those that wait for another's."""

    has: Mapping[Claim, Rule] = field(default_factory=dict)
    waits: Mapping[Claim, Rule] = field(default_factory=dict)

    def rule(self, claim: Claim) -> Rule | None:
        return self.has.get(claim) or self.waits.get(claim)


_NOTHING = _Entry()


class ClaimIndex:
    """Every claim of the published table, with its owner and whoever waits for it."""

    def __init__(self) -> None:
        self.reserved: Mapping[str, str] = {}
        """Host -> the entry that has all of it, whether that is published or not."""
        self._entries: dict[str, _Entry] = {}
        self._owner: dict[Claim, str] = {}
        self._waiting: dict[Claim, frozenset[str]] = {}

    def foreign(self, app: str, claims: Collection[Claim]) -> frozenset[Claim]:
        """Return those of *claims* that *app* cannot have now: another has them, or their host is reserved."""
        return frozenset(
            claim for claim in claims if self.reserved.get(claim.host, app) != app or self._owner.get(claim, app) != app
        )

    def settle(self, changes: Changes, table: Mapping[str, AppRoutes]) -> dict[str, AppRoutes | None]:
        """
        Return *changes* with every claim at its owner, and the entries of others that this changes.

        Who has a claim and wants it keeps it. One that is kept for another passes when that one asks for it; what
        nobody has any more goes to whoever waits. Raises Refused where a route cannot be read.
        """
        entries = {app: _read(app, routes) for app, routes in sorted(changes.items())}
        asked: dict[Claim, dict[str, Rule]] = {}
        for app, entry in entries.items():
            for claim, rule in (*entry.waits.items(), *entry.has.items()):
                asked.setdefault(claim, {})[app] = rule
        placed = {c: asked.get(c, {}) | self._others(c, entries) for c in sorted({*asked, *self._left(entries)})}
        winners = {claim: self._winner(claim, rules) for claim, rules in placed.items()}
        found = dict(changes)
        wins: dict[str, dict[Claim, bool]] = {}
        for claim, rules in placed.items():
            for app in rules:
                wins.setdefault(app, {})[claim] = winners[claim] == app
        for app in sorted(wins):
            routes = changes[app] if app in changes else table.get(app)
            if routes is not None:
                found[app] = _place(routes, wins[app])
        return found

    def take(self, settled: Changes) -> None:
        """Enter what `settle` returned."""
        for app in settled:
            before = self._entries.pop(app, _NOTHING)
            for claim in before.has:
                if self._owner.get(claim) == app:
                    del self._owner[claim]
            for claim in before.waits:
                self._waiting[claim] = self._waiting.get(claim, frozenset()) - {app}
                if not self._waiting[claim]:
                    del self._waiting[claim]
        for app, routes in settled.items():
            if routes is None:
                continue
            entry = self._entries[app] = _read(app, routes)
            for claim in entry.has:
                self._owner.setdefault(claim, app)
            for claim in entry.waits:
                self._waiting[claim] = self._waiting.get(claim, frozenset()) | {app}

    def _left(self, entries: Mapping[str, _Entry]) -> Iterator[Claim]:
        """Yield what the apps of *entries* had or waited for, and what is theirs whoever has it."""
        for app in entries:
            before = self._entries.get(app, _NOTHING)
            yield from (*before.has, *before.waits)
        if owners := set(entries) & set(self.reserved.values()):
            yield from (claim for claim in self._owner if self.reserved.get(claim.host) in owners)

    def _others(self, claim: Claim, entries: Mapping[str, _Entry]) -> dict[str, Rule]:
        """Return the rule of every app besides those of *entries* that has *claim* or waits for it."""
        owner = self._owner.get(claim)
        apps = {*self._waiting.get(claim, ()), *([owner] if owner is not None else [])} - entries.keys()
        read = ((app, self._entries[app].rule(claim)) for app in sorted(apps))
        return {app: rule for app, rule in read if rule is not None}

    def _winner(self, claim: Claim, rules: Mapping[str, Rule]) -> str | None:
        if (reserved := self.reserved.get(claim.host)) is not None:
            return reserved
        owner = self._owner.get(claim)
        mine = rules.get(owner) if owner is not None else None
        if mine is not None and not mine.kept_for:
            return owner
        wanting = (app for app, rule in rules.items() if not rule.kept_for)
        asking = sorted(wanting, key=lambda app: (rules[app].announced, app))
        if mine is not None and mine.kept_for in asking and not rules[mine.kept_for].announced:
            return mine.kept_for
        if asking and not rules[asking[0]].announced:
            return asking[0]
        # What is only announced takes nothing from what serves.
        return owner if mine is not None else min(rules.keys() - set(asking), default=asking[0] if asking else None)


def _read(app: str, routes: AppRoutes | None) -> _Entry:
    if routes is None:
        return _NOTHING
    try:
        return _Entry(
            has={claim_of(rule): rule for rule in routes.rules}, waits={claim_of(r): r for r in routes.waiting}
        )
    except BadTarget as error:
        raise Refused(f"{app}: a route cannot be published: {error}") from error


def _place(routes: AppRoutes, wins: Mapping[Claim, bool]) -> AppRoutes:
    """Return the entry with its rules where they belong; those that only stand in for another go if they lose."""
    if not routes.waiting and all(wins.values()):
        return routes
    rules = [rule for rule in routes.rules if wins.get(claim_of(rule), True)]
    rules += [rule for rule in routes.waiting if wins.get(claim_of(rule), False)]
    waiting = [rule for rule in routes.waiting if not wins.get(claim_of(rule), False)]
    waiting += [
        rule for rule in routes.rules if not wins.get(claim_of(rule), True) and not (rule.kept_for or rule.announced)
    ]
    return replace(routes, rules=tuple(rules), waiting=tuple(waiting))
