"""One look after another at the watched directory: what is read, when it counts, what it means, who is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from controller.clock import Clock
from controller.errors import ControllerError
from controller.intake.documents import call_roll
from controller.intake.ground import Ground
from controller.intake.judge import Facts, Held, State, judge, restore_state
from controller.intake.origin import Origin
from controller.intake.removal import next_expiry
from controller.intake.scan import FileProblem, Look, Seen, observe_directory, printable
from controller.intake.settle import Settled, settle_files
from controller.plan.claims import Claims
from controller.plan.situation import Standing

log = structlog.get_logger("intake")

POLL_S = 1.0
"""Between looks while an app waits for another's claim, and after a failed attempt to store what was seen."""
IDLE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What the directory needs of the rest."""

    load_standings: Callable[[], Mapping[str, Standing]]
    save_standing: Callable[[Standing, int], None]
    next_change: Callable[[], int]
    held: Callable[[Mapping[str, Standing]], Held]
    """What apps have by what runs or is under way, where they stand in the directory as given."""
    fixed_claims: Callable[[], Mapping[str, Claims]] = dict
    reserved: Mapping[str, str] = field(default_factory=dict)
    """Host -> who has all of it."""
    ring: Callable[[str], None] = lambda app: None
    origin: Origin = Origin()  # noqa: RUF009 - it has no state


@dataclass(frozen=True, slots=True)
class Shown:
    """What readers see; replaced by one assignment, so that they need no lock."""

    state: State
    looked_at: int = 0
    root_problem: tuple[FileProblem, ...] = ()


class Looks:
    """What the looks remember from one to the next; one thread at a time."""

    def __init__(self, root: Path, clock: Clock, ports: Ports) -> None:
        self._root = root
        self._clock = clock
        self._ports = ports
        self._settled = Settled()
        self._trusted: dict[str, str] = {}
        self._ordered: set[str] = set()
        self._authors: dict[str, tuple[str, str]] = {}
        self._change = 0
        self._first = True
        self._shaken = ""
        self._undone = True
        self._blind: tuple[str, ...] = ()
        self.ground = Ground(root)
        self.seen: Mapping[str, Seen] = {}
        self.shown = Shown(restore_state(ports.load_standings(), clock.now().steady))

    def trust(self, file: str, digest: str) -> None:
        """Take the file as whole if it has just these bytes ("": if it is not there)."""
        self._trusted[file] = digest

    def sign(self, app: str, digest: str, by: str, change: int) -> None:
        """Note who uploaded a spec and under which number."""
        self._authors[app] = (digest, by)
        self._change = max(self._change, change)

    def order_removal(self, app: str) -> None:
        """Let the removal of the app go on at the next look if it is gone then."""
        self._ordered.add(app)

    def renew(self) -> None:
        """Judge anew at the next look if some app has not got yet what it asks for."""
        self._undone = self._undone or self.shown.state.is_contested

    def look(self, *, full: bool = False, urgent: bool = False) -> float:
        """Look now; return after how many seconds to look again. *urgent*: do not wait for others to settle."""
        now = self._clock.now().steady
        replaced = self.ground.is_replaced()
        look = observe_directory(self._root, self.seen, full=full, only=self._ports.origin.only)
        self.ground.hold()
        self._shaken = self._judge_ground(look, replaced) or self._shaken
        if self._first:
            self._begin(look)
        self.seen = look.files
        before = self._settled
        self._settled = settle_files(before, look.files, now, self._trusted, urgent=urgent)
        try:
            is_due = full and self.shown.state.is_contested  # in case nobody told us that something has moved
            if self._settled.complete and (is_due or not self._is_quiet(before, look)):
                self._conclude(look, now)
        except ControllerError as error:
            self._undone = True
            log.warning("changes in the directory cannot be applied yet", why=str(error))
            return POLL_S
        return self._next_look(now)

    def _is_quiet(self, before: Settled, look: Look) -> bool:
        """Say whether nothing can have changed since the last look, so that nobody need be asked for anything."""
        shown = self.shown
        return (
            not (self._undone or self._ordered or self._shaken or self._settled.pending or shown.state.grants.waiting)
            and self._settled.files == before.files
            and (look.blind, self._change, look.root) == (self._blind, shown.looked_at, "ok")
            and next_expiry(shown.state.absences) is None
        )

    def _judge_ground(self, look: Look, replaced: bool) -> str:
        root = printable(self._root)
        if look.root != "ok":
            return f"the directory {root} is {look.root}"
        if replaced:
            return f"the directory {root} was replaced"
        return f"the directory {root} was empty at start" if self._first and not look.files else ""

    def _begin(self, look: Look) -> None:
        """Take what stands there at start as whole, since nobody is known to be writing it."""
        self._first = False
        self._trusted.update((file, seen.digest) for file, seen in look.files.items() if seen.sound)
        try:
            # All numbers given out before this start are accounted for by its first look.
            self._change = max(self._change, self._ports.next_change())
        except ControllerError as error:
            log.warning("no change number to begin with", why=str(error))

    def _conclude(self, look: Look, now: float) -> None:
        """Judge what counts, store it and show it: all of it or, if something fails, nothing."""
        self._undone = False  # first: what moves meanwhile is judged by the next look
        leaving = {file for file, change in self._settled.pending.items() if change.seen is None}
        facts = self._facts(look, leaving, now)
        before, after = self.shown.state, judge(self.shown.state, facts)
        self._adopt(after, look)
        for app, claims in facts.held.live.items():
            if any(before.heirs.get(claim) != after.heirs.get(claim) for claim in claims):
                self._ports.ring(app)  # what it lets go may have another to go to
        self._blind = look.blind
        self._ordered.clear()
        self._trusted.clear()
        # A directory that was shaken stays so until what vanished with it has been judged.
        self._shaken = self._shaken if leaving else ""

    def _facts(self, look: Look, leaving: set[str], now: float) -> Facts:
        settled = self._settled
        roll = call_roll(
            settled.files,
            self.shown.state.homes,
            unclear=settled.pending.keys() - settled.files.keys(),
            fading=leaving,
            blind=look.blind,
        )
        return Facts(
            roll=roll,
            now=now,
            held=self._ports.held(self.shown.state.standings),
            fixed=self._ports.fixed_claims(),
            reserved=self._ports.reserved,
            authors=self._authors,
            source=self._ports.origin.source,
            ordered=frozenset(self._ordered),
            shaken=self._shaken,
        )

    def _adopt(self, state: State, look: Look) -> None:
        before, after = self.shown.state.standings, state.standings
        changed = [app for app in sorted({*before, *after}) if before.get(app) != after.get(app)]
        for app in changed:
            self._ports.save_standing(after.get(app) or Standing(app=app, gone=True), self._change)
        problem = self._root_problem(look)
        if problem != self.shown.root_problem:
            log.warning("the watched directory is back" if not problem else problem[0].text)
        self.shown = Shown(state, self._change, problem)
        for app in changed:
            self._ports.ring(app)

    def _root_problem(self, look: Look) -> tuple[FileProblem, ...]:
        if look.root == "ok":
            return ()
        root = printable(self._root)
        return (
            FileProblem(root, 1, f"{root}: the watched directory is {look.root}; running apps are left as they are"),
        )

    def _next_look(self, now: float) -> float:
        state = self.shown.state
        moments = [self._settled.again_at, next_expiry(state.absences)]
        moments += [now + POLL_S] if state.grants.waiting else []
        return max(0.0, min((moment - now for moment in moments if moment is not None), default=IDLE_S))
