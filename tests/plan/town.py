"""
Several apps' worlds over one directory and one table: what no single app can see is checked here.

The directory's judgement and the table's claims are the real ones. Every publication is held against the law
that a request which somebody answers is answered by somebody in the next version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from controller.intake.documents import Roll, Speaker
from controller.intake.judge import Facts, Held, State, judge
from controller.plan.claims import Claim, claim_of, claims_in_force, claims_of, claims_of_routes
from controller.plan.operations import Operation, PublishRoutes
from controller.plan.patience import is_resting, is_stuck
from controller.plan.picture import Picture
from controller.plan.situation import Done, Heir, Standing
from controller.publisher.claims import ClaimIndex
from controller.routing.table import AppRoutes, Rule
from controller.spec.digest import digest_spec
from controller.spec.model import AppSpec
from controller.spec.parse import Document
from tests.builders import a_situation, a_spec
from tests.plan.outside import Fault, LawBroken, Outside


@dataclass
class Citizen(Outside):
    """One app among others: what it publishes goes into the table of all."""

    town: Town | None = None

    def _do(self, operation: Operation, fault: Fault | None) -> Done:
        done = super()._do(operation, fault)
        if isinstance(operation, PublishRoutes) and not (fault and fault.how == "fail"):
            assert self.town is not None
            self.town.publish(self.situation.app, operation.routes)
        return done


@dataclass
class Town:
    """Apps by name; `files` is what the directory holds."""

    files: dict[str, AppSpec] = field(default_factory=dict)
    apps: dict[str, Citizen] = field(default_factory=dict)
    table: dict[str, AppRoutes] = field(default_factory=dict)
    index: ClaimIndex = field(default_factory=ClaimIndex)
    state: State = field(default_factory=State)
    fixed: dict[str, frozenset[Claim]] = field(default_factory=dict)
    now: float = 1000.0
    story: list[str] = field(default_factory=list)

    # What people do.

    def put(self, app: str, *hosts: str, image: str = "good:1", **fields: object) -> None:
        """Put the app's document into the directory."""
        spec = a_spec(name=app, image=image, routes=[{"host": host} for host in hosts], **fields)
        self.files[app] = spec
        self.story.append(f"-- file {app}: {image} {' '.join(hosts)} {fields or ''}")

    def drop(self, app: str) -> None:
        if self.files.pop(app, None) is not None:
            self.story.append(f"-- file {app}: gone")

    def hosts(self, app: str) -> set[str]:
        """Return what the app's document asks for."""
        return {str(route.host) for route in self.files[app].routes} if app in self.files else set()

    def app(self, name: str) -> Citizen:
        if name not in self.apps:
            situation = replace(a_situation(), app=name, standing=Standing(app=name))
            self.apps[name] = Citizen(situation=situation, town=self, story=self.story)
        return self.apps[name]

    # The directory.

    def look(self) -> None:
        """Judge the directory, as the intake does."""
        speakers = {
            app: Speaker(file=f"{app}.yaml", document=Document(name=app, spec=spec, digest=digest_spec(spec)))
            for app, spec in self.files.items()
        }
        ordered = frozenset(self.state.standings.keys() - self.files.keys())
        facts = Facts(
            roll=Roll(speakers=speakers), now=self.now, held=self._survey(), fixed=self.fixed, ordered=ordered
        )
        self.state = judge(self.state, facts)
        for name in self.state.standings:
            self.app(name)

    def _survey(self) -> Held:
        live, kept, resting = {}, {}, set()
        for name, one in self.apps.items():
            memory, releases = one.situation.memory, one.situation.releases
            standing = self.state.standings.get(name, Standing(app=name))
            numbers = (memory.live, memory.rollout.release if memory.rollout else None)
            specs = [releases[n].spec for n in numbers if n is not None]
            if specs:
                live[name] = frozenset().union(*(claims_of(spec) for spec in specs))
            elif name in self.table:
                live[name] = claims_of_routes(self.table[name])
            if is_resting(standing, memory, releases):
                resting.add(name)
            if memory.live and name in self.table and is_stuck(standing, memory, releases):
                kept[name] = claims_in_force(self.table[name]) & claims_of(releases[memory.live].spec)
        return Held(live=live, kept=kept, resting=frozenset(resting))

    def heirs(self, app: str, claims: frozenset[Claim]) -> Mapping[Claim, Heir]:
        others = ((claim, [one for one in self.state.heirs.get(claim, ()) if one != app]) for claim in claims)
        return {claim: Heir(found[0], found[0] in self.state.resting) for claim, found in others if found}

    # A pass.

    def pass_once(self, name: str, fault: Fault | None = None) -> bool:
        """One pass over one app; say whether it did or learned anything."""
        one = self.app(name)
        standing = self.state.standings.get(name, Standing(app=name))
        p = Picture(one.situation)
        specs = [r.spec for r in (p.live, p.target) if r] + ([standing.wanted.spec] if standing.wanted else [])
        asked = frozenset().union(*(claims_of(spec) for spec in specs))
        has = claims_of_routes(self.table[name]) if name in self.table else frozenset()
        one.situation = replace(
            one.situation,
            standing=standing,
            foreign=self.index.foreign(name, asked),
            heirs=self.heirs(name, asked | has),
        )
        before = one.situation
        decision = one.pass_once(fault)
        return bool(decision.operations) or decision.memory != before.memory

    def publish(self, app: str, routes: AppRoutes | None) -> None:
        before = dict(self.table)
        settled = self.index.settle({app: routes}, before)
        self.index.take(settled)
        for name, entry in settled.items():
            if entry is None:
                self.table.pop(name, None)
            else:
                self.table[name] = entry
            if name in self.apps:
                world = self.apps[name].situation.world
                world = replace(world, routing=replace(world.routing, published=entry))
                self.apps[name].situation = replace(self.apps[name].situation, world=world)
        self._check_handed_over(before, app)

    def _check_handed_over(self, before: Mapping[str, AppRoutes], publisher: str) -> None:
        owners = [claim for entry in self.table.values() for claim in claims_of_routes(entry)]
        if len(owners) != len(set(owners)):
            self._break("two apps have one claim")
        for name, entry in before.items():
            for claim in sorted(served_by(entry) if self._has_ready(name, entry) else ()):
                after = {app: e for app, e in self.table.items() if claim in claims_of_routes(e)}
                owner = next(iter(after), None)
                if owner == name or (owner is not None and claim in served_by(after[owner])):
                    continue
                if owner is None and not self.heirs(name, frozenset({claim})):
                    continue  # nobody asks for what it lets go
                self._break(f"{claim} was answered by {name}; {owner} has it now and answers nothing ({publisher})")

    def _has_ready(self, app: str, entry: AppRoutes) -> bool:
        """Say whether one of those that the table names still runs: what was killed answers nobody."""
        running = {r.id for r in self.apps[app].replicas if r.state == "running"} if app in self.apps else set()
        return any(u.id in running and u.state == "ready" for u in entry.upstreams)

    def _break(self, law: str) -> None:
        lines = [f"{app}: {entry}" for app, entry in sorted(self.table.items())]
        raise LawBroken(f"{law}\n" + "\n".join((*self.story[-60:], *lines)))

    # To rest.

    def react(self) -> None:
        for one in self.apps.values():
            one.react()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for one in self.apps.values():
            one.pass_time(seconds)

    def settle_down(self, most: int = 400) -> None:
        """Pass over everything until nothing moves."""
        calm = 0
        for _ in range(most):
            before = (self.state, dict(self.table), [one.replicas for one in self.apps.values()])
            self.look()
            moved = [self.pass_once(name) for name in sorted(self.apps)]
            self.react()
            after = (self.state, dict(self.table), [one.replicas for one in self.apps.values()])
            calm = 0 if any(moved) or before != after else calm + 1
            self.pass_time(0.05 if not calm else 2.0)
            if calm > 30:
                return
        self._break("law 3: the town does not come to rest")

    def check_rest(self) -> None:
        """Check every app's rest, and that who lacks what its spec claims is told, with the owner."""
        self.look()
        for name, one in sorted(self.apps.items()):
            p = Picture(one.situation)
            standing = one.situation.standing
            entry = self.table.get(name)
            if standing.gone and self.heirs(name, claims_of_routes(entry) if entry else frozenset()):
                continue  # it serves on for another
            if standing.gone or standing.wanted is not None:
                one.check_rest()
            if p.live is None or standing.wanted is None or p.live.digest != standing.wanted.digest:
                continue
            lacks = claims_of(p.live.spec) - (claims_of_routes(entry) if entry else frozenset())
            if lacks and not standing.invalid:
                self._break(f"{name} lacks {sorted(lacks)} and is not told\n{standing}\n{self.state.grants}")

    def answers(self, host: str) -> str:
        """Return who answers requests for *host*; empty: nobody."""
        return next((app for app, entry in self.table.items() if Claim(host) in served_by(entry)), "")


def served_by(entry: AppRoutes) -> frozenset[Claim]:
    """Return the claims whose requests a ready replica answers."""
    if entry.mode != "serve" or not any(u.state == "ready" and u.group == "live" for u in entry.upstreams):
        return frozenset()
    return frozenset(claim_of(rule) for rule in entry.rules if is_answering(rule))


def is_answering(rule: Rule) -> bool:
    return rule.group == "live" and not rule.announced
