"""
Who owns which host and path, over time.

A claim belongs to the app that has it: by the spec in force, by its live release, or by a rollout under way.
A newcomer waits until nobody has it any more. Where one look finds several apps changed, those that let go
and those that take move at once; in the table each claim passes when its taker is ready.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from controller.routing.match import rule_host, rule_path
from controller.routing.table import AppRoutes, Rule
from controller.spec.model import AppSpec


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """One host and path prefix as they are compared; host "" is any host, path "" is the whole host."""

    host: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.host or 'any host'}{self.path or '/'}"


Claims = frozenset[Claim]
NOTHING: Claims = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What each app has before a look is judged."""

    wanted: Mapping[str, Claims] = field(default_factory=dict)
    """By the spec in force."""
    live: Mapping[str, Claims] = field(default_factory=dict)
    """By the live release and an open rollout; after a restart, by the last table."""
    fixed: Mapping[str, Claims] = field(default_factory=dict)
    """By fixed routes, under names for a person; they never let go by themselves."""
    kept: Mapping[str, Claims] = field(default_factory=dict)
    """By apps at rest beside what their file asks: nobody gets these before a person has moved them on."""
    reserved: Mapping[str, str] = field(default_factory=dict)
    """Host -> who has all of it, with every path, under a name for a person."""
    owners: Mapping[Claim, str] = field(default_factory=dict)
    """Whom the last look found as owner; empty after a restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """Which of those that asked may have what they asked for."""

    moved: frozenset[str] = frozenset()
    waiting: Mapping[str, tuple[tuple[Claim, str], ...]] = field(default_factory=dict)
    """App -> the claims it waits for, each with its owner; sorted."""
    owners: Mapping[Claim, str] = field(default_factory=dict)


def claims_of(spec: AppSpec) -> Claims:
    """Return all that *spec* claims: its routes and its preview host."""
    rules = [Rule(host=route.host, path=route.path) for route in spec.routes]
    if spec.preview_host is not None:
        rules.append(Rule(host=spec.preview_host))
    return claims_of_rules(rules)


def claims_of_routes(routes: AppRoutes) -> Claims:
    """Return all that an entry of the table claims."""
    return claims_of_rules(routes.rules)


def claim_of(rule: Rule) -> Claim:
    """Return the rule's host and path in the form in which they are compared."""
    return Claim(rule_host(rule), rule_path(rule))


def claims_in_force(routes: AppRoutes) -> Claims:
    """Return what an entry of the table answers for a release of its own."""
    return claims_of_rules(rule for rule in routes.rules if not rule.announced and not rule.kept_for)


def keepers(rules: Iterable[Rule]) -> dict[Claim, str]:
    """Return the rules' claims, each with the app that it is kept for; "" where it is for none."""
    return {claim_of(rule): rule.kept_for for rule in rules}


def claims_of_rules(rules: Iterable[Rule]) -> Claims:
    """Return the rules' hosts and paths in the form in which they are compared."""
    return frozenset(map(claim_of, rules))


def grant_claims(asked: Mapping[str, Claims], holdings: Holdings, patient: Collection[str] = ()) -> Grants:
    """
    Return who may have what they ask for; *asked* holds the apps whose spec differs from the one in force.

    No two apps are granted one claim, nobody is granted what another keeps, and nobody waits who could move. What
    an app's spec in force claims already holds nothing of its next one up, whoever has it now.
    Those of *patient* have asked for the same in an earlier look: what another lets go only now they get once
    its release without it is live, unless each waits for the other.
    """
    book = _Book(asked, holdings, patient)
    while movers := book.next_movers():
        book.move(movers)
    return Grants(
        moved=frozenset(book.moved),
        waiting={app: book.obstacles(app) for app in sorted(asked.keys() - book.moved)},
        owners=book.owners(),
    )


def _rank_havers(holdings: Holdings) -> dict[Claim, list[str]]:
    """Return who has each claim, the best right first."""
    havers: dict[Claim, list[tuple[bool, bool, bool, bool, bool, str]]] = {}
    for app in {*holdings.wanted, *holdings.live, *holdings.kept}:
        wanted, live = holdings.wanted.get(app, NOTHING), holdings.live.get(app, NOTHING)
        kept = holdings.kept.get(app, NOTHING)
        for claim in wanted | live | kept:
            lets_go = app in holdings.wanted and claim not in wanted
            rank = (
                claim not in kept,
                holdings.owners.get(claim) != app,
                lets_go,
                claim not in live,
                claim not in wanted,
            )
            havers.setdefault(claim, []).append((*rank, app))
    return {claim: [rank[-1] for rank in sorted(ranks)] for claim, ranks in havers.items()}


def foreign_claims(app: str, claims: Claims, owners: Mapping[Claim, str]) -> tuple[tuple[Claim, str], ...]:
    """Return those of *claims* that another app owns, each with the owner, sorted."""
    return tuple((claim, owners[claim]) for claim in sorted(claims) if owners.get(claim, app) != app)


class _Book:
    """Who has which claim, ranked: fixed routes, what is kept, the last owner, what is live, the first name."""

    def __init__(self, asked: Mapping[str, Claims], holdings: Holdings, patient: Collection[str]) -> None:
        self._asked = asked
        self._wanted = holdings.wanted
        self._reserved = holdings.reserved
        self._patient = frozenset(patient)
        # Those who wait for each other come last, for only they can never be served in any other way.
        self._waits_in_ring = False
        self._fixed = {claim: name for name in sorted(holdings.fixed, reverse=True) for claim in holdings.fixed[name]}
        self._havers = _rank_havers(holdings)
        self._taken: dict[Claim, str] = {}
        self.moved: set[str] = set()

    def move(self, movers: Collection[str]) -> None:
        """Give *movers* what they ask for."""
        self.moved |= set(movers)
        self._taken |= {claim: app for app in movers for claim in self._asked[app]}

    def next_movers(self) -> frozenset[str]:
        """Return the largest set (or else the first single app) that may move beside those that have moved."""
        rest = sorted(self._asked.keys() - self.moved)
        for in_ring in (False, True):
            self._waits_in_ring = in_ring
            for some in (rest, *([app] for app in rest)):
                if movers := self._largest(some):
                    return movers
        return frozenset()

    def owners(self) -> Mapping[Claim, str]:
        """Return the owner of every claim that somebody has."""
        claims = sorted({*self._havers, *self._fixed, *self._taken})
        return {claim: owner for claim in claims if (owner := self._keeper(claim)) is not None}

    def obstacles(self, app: str) -> tuple[tuple[Claim, str], ...]:
        """Return what *app* asks for and has to wait for, each with whoever has it."""
        seen = ((claim, self._keeper(claim, (), app)) for claim in sorted(self._new(app)))
        return tuple((claim, owner) for claim, owner in seen if owner is not None and owner != app)

    def _keeper(self, claim: Claim, movers: Collection[str] = (), taker: str = "") -> str | None:
        """Return who has *claim*, as *taker* has to see it, even if *movers* get what they ask for."""
        if claim.host in self._reserved:
            return self._reserved[claim.host]
        if claim in self._fixed:
            return self._fixed[claim]
        for app in self._havers.get(claim, ()):
            if not (self._leaves(app, movers, taker) and claim not in self._asked[app]):
                return app
        return self._taken.get(claim)

    def _leaves(self, app: str, movers: Collection[str], taker: str) -> bool:
        if taker in self._patient:
            return app in movers and self._waits_in_ring
        return app in movers or app in self.moved

    def _largest(self, rest: Iterable[str]) -> frozenset[str]:
        some = set(rest)
        while some:
            movers, winners = set(some), set[str]()
            while movers:
                stuck = {app for app in movers if self._is_stuck(app, movers)}
                if not stuck:
                    lost = self._losers(movers)
                    stuck, winners = set(lost), winners | set(lost.values())
                if not stuck:
                    return frozenset(movers)
                movers -= stuck
            if not winners:
                break
            # An earlier name that cannot move itself keeps nobody waiting.
            some.discard(min(winners))
        return frozenset()

    def _is_stuck(self, app: str, movers: Collection[str]) -> bool:
        return any(self._keeper(claim, movers, app) not in {None, app} for claim in self._new(app))

    def _new(self, app: str) -> Claims:
        return self._asked[app] - self._wanted.get(app, NOTHING)

    def _losers(self, movers: Collection[str]) -> Mapping[str, str]:
        """Return those who ask for what nobody has and an earlier name asks for too, each with that name."""
        first: dict[Claim, str] = {}
        for app in sorted(movers):
            for claim in self._asked[app]:
                first.setdefault(claim, app)
        return {
            app: first[claim]
            for app in movers
            for claim in sorted(self._asked[app], reverse=True)
            if first[claim] != app and self._keeper(claim, movers, app) is None
        }
