"""
How every app stands, worked out from the files that count, from what was in force and from who owns what.

Knows nothing of the disk, clocks or threads; those arrive as arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.intake.documents import Roll, Speaker
from controller.intake.origin import nobody
from controller.intake.removal import WINDOW_S, Absence, judge_absences
from controller.intake.scan import FileProblem
from controller.plan.claims import NOTHING, Claim, Claims, Grants, Holdings, claims_of, foreign_claims, grant_claims
from controller.plan.situation import Standing, Wanted
from controller.spec.parse import Document

BY_FILE = "file"
"""Who wants a spec that came by the directory and not by an upload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that one look leaves for the next."""

    standings: Mapping[str, Standing] = field(default_factory=dict)
    absences: Mapping[str, Absence] = field(default_factory=dict)
    grants: Grants = field(default_factory=Grants)
    problems: tuple[FileProblem, ...] = ()
    waited: Mapping[str, str] = field(default_factory=dict)
    """App -> digest of the document that waits for a claim."""
    heirs: Mapping[Claim, tuple[str, ...]] = field(default_factory=dict)
    """Who asks for a claim: by a spec in force, or as soon as the one app that has it lets go."""
    resting: frozenset[str] = frozenset()
    """Apps that do not move by themselves."""
    is_contested: bool = False
    """Some app has not got yet what its spec in force claims."""

    @property
    def homes(self) -> Mapping[str, str]:
        """Where each app was found last."""
        return {app: standing.file for app, standing in self.standings.items() if standing.file}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What apps have besides their files."""

    live: Mapping[str, Claims] = field(default_factory=dict)
    """Every app of which something runs or is under way, with what its releases claim (nothing, too)."""
    kept: Mapping[str, Claims] = field(default_factory=dict)
    """What apps serve that are at rest beside what their file asks, and so keep."""
    resting: frozenset[str] = frozenset()
    """Apps that do not move by themselves: at rest there, or at what their file asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is so at the moment of a look."""

    roll: Roll
    now: float
    """Steady seconds."""
    held: Held = field(default_factory=Held)
    fixed: Mapping[str, Claims] = field(default_factory=dict)
    reserved: Mapping[str, str] = field(default_factory=dict)
    """Host -> who has all of it."""
    authors: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """App -> (digest, who) of its last upload."""
    source: Callable[[str], tuple[str, str]] = nobody
    """File -> who wants what stands in it if nobody uploaded it, and why; ("", ""): it just lies there."""
    ordered: frozenset[str] = frozenset()
    """Apps that a person has just deleted."""
    shaken: str = ""
    """What is wrong with the directory itself; empty: nothing."""


def restore_state(stored: Mapping[str, Standing], now: float) -> State:
    """Return the state after a restart: the last good specs in force, holds and removals as they were."""
    absences = {
        app: Absence(now - WINDOW_S, held=standing.held, over=standing.gone)
        for app, standing in stored.items()
        if standing.gone or standing.held
    }
    wanted = {app: claims_of(standing.wanted.spec) for app, standing in stored.items() if standing.wanted}
    return State(standings=dict(stored), absences=absences, heirs=_heirs(wanted, {}, Grants()))


def judge(before: State, facts: Facts) -> State:
    """Return how every app stands now; the same facts twice change nothing the second time."""
    absences = _judge_absences(before, facts)
    asked = {document.spec.name: document for document in _asked(before, facts.roll) if document.spec}
    patient = {app for app, document in asked.items() if before.waited.get(app) == document.digest}
    claims = {app: claims_of(document.spec) for app, document in asked.items() if document.spec}
    grants = grant_claims(claims, _holdings(before, facts, absences), patient)
    standings = dict(_standings(before, facts, absences, grants))
    wanted = {app: claims_of(one.wanted.spec) for app, one in standings.items() if one.wanted}
    heirs = _heirs(wanted, claims, grants)
    return State(
        standings={app: _displace(one, wanted.get(app, NOTHING), grants) for app, one in standings.items()},
        absences=absences,
        grants=grants,
        problems=facts.roll.problems,
        waited={app: asked[app].digest for app in grants.waiting},
        heirs=heirs,
        resting=facts.held.resting,
        is_contested=any(set(heirs.get(claim, ())) - {app} for app, has in facts.held.live.items() for claim in has),
    )


def _holdings(before: State, facts: Facts, absences: Mapping[str, Absence]) -> Holdings:
    """Return what everybody has; an app that is to be removed lets go of all, and serves on until others are ready."""
    leaving = {app for app, absence in absences.items() if absence.over} - facts.held.kept.keys()
    wanted = {app: claims_of(one.wanted.spec) for app, one in before.standings.items() if one.wanted}
    return Holdings(
        wanted={app: claims for app, claims in wanted.items() if app not in leaving},
        live={app: claims for app, claims in facts.held.live.items() if app not in leaving},
        fixed=facts.fixed,
        kept=facts.held.kept,
        reserved=facts.reserved,
        owners=before.grants.owners,
    )


def _heirs(
    wanted: Mapping[str, Claims], asked: Mapping[str, Claims], grants: Grants
) -> Mapping[Claim, tuple[str, ...]]:
    """Return who is to have each claim: by a spec in force, or because only one app is in the way."""
    alone = {app for app, places in grants.waiting.items() if len({owner for _, owner in places}) == 1}
    found: dict[Claim, list[str]] = {}
    for some in (wanted, {app: asked[app] for app in alone}):
        for app in sorted(some):
            for claim in some[app]:
                found.setdefault(claim, []).append(app)
    return {claim: tuple(dict.fromkeys(apps)) for claim, apps in found.items()}


def _displace(standing: Standing, claims: Claims, grants: Grants) -> Standing:
    """Return the standing with a word on what its spec in force claims and another keeps."""
    if standing.invalid or standing.wanted is None or standing.held:
        return standing
    places = foreign_claims(standing.app, claims, grants.owners)
    return replace(standing, invalid=_say_waiting(standing.file, places)) if places else standing


def _judge_absences(before: State, facts: Facts) -> Mapping[str, Absence]:
    known = {app for app, standing in before.standings.items() if standing.wanted or standing.gone or standing.held}
    strangers = facts.held.live.keys() - before.standings.keys() - facts.roll.speakers.keys()
    found_running = {app: Absence(facts.now, held="it is running, but no file defines it") for app in strangers}
    known |= facts.held.live.keys()
    return judge_absences(
        {**found_running, **before.absences},
        present=known & facts.roll.speakers.keys(),
        absent=known - facts.roll.speakers.keys(),
        ordered=facts.ordered,
        shaken=facts.shaken,
        now=facts.now,
        has_newcomer=any(speaker.document for app, speaker in facts.roll.speakers.items() if app not in known),
    )


def _asked(before: State, roll: Roll) -> Iterator[Document]:
    """Yield the documents that ask for something other than what is in force."""
    for app, speaker in sorted(roll.speakers.items()):
        document = speaker.document
        standing = before.standings.get(app)
        wanted = standing.wanted if standing else None
        if document is not None and document.spec is not None and (not wanted or wanted.digest != document.digest):
            yield document


def _standings(
    before: State, facts: Facts, absences: Mapping[str, Absence], grants: Grants
) -> Iterator[tuple[str, Standing]]:
    for app, absence in absences.items():
        yield app, _absent(before.standings.get(app) or Standing(app=app), absence)
    for app, speaker in facts.roll.speakers.items():
        standing = before.standings.get(app) or Standing(app=app)
        if not speaker.document and not speaker.problem:
            yield app, replace(standing, gone=False, held="")
        else:
            yield app, _present(standing, speaker, facts, grants)


def _absent(standing: Standing, absence: Absence) -> Standing:
    if absence.over:
        return Standing(app=standing.app, gone=True)
    return replace(standing, held=absence.held, invalid="" if absence.held else standing.invalid, gone=False)


def _present(standing: Standing, speaker: Speaker, facts: Facts, grants: Grants) -> Standing:
    app = standing.app
    document = speaker.document
    wanted = standing.wanted
    if wanted is not None:
        wanted = replace(wanted, file=speaker.file)
    if document is not None and document.spec is not None and app in grants.moved:
        digest, author = facts.authors.get(app, ("", ""))
        by, why = (author, "") if digest == document.digest and author else facts.source(speaker.file)
        wanted = Wanted(spec=document.spec, digest=document.digest, file=speaker.file, by=by or BY_FILE, why=why)
    problem = speaker.problem or _render_waiting(app, speaker, grants)
    return Standing(app=app, wanted=wanted, invalid=problem, file=speaker.file)


def _render_waiting(app: str, speaker: Speaker, grants: Grants) -> str:
    waiting = grants.waiting.get(app)
    if not waiting or speaker.document is None:
        return ""
    return _say_waiting(f"{speaker.file}:{speaker.document.first_line}", waiting)


def _say_waiting(place: str, waiting: Sequence[tuple[Claim, str]]) -> str:
    claim, owner = waiting[0]
    more = f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else ""
    return f"{place}: routes: found {claim}, which {owner} has{more}; this is applied once it is free"
