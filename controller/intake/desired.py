"""The watched directory as the rest of the house knows it: how each app stands, and how to change it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from controller.clock import Clock
from controller.errors import KeptElsewhere, Refused, Retry, Stale
from controller.intake.looks import POLL_S, Looks, Ports
from controller.intake.scan import FileProblem, Seen, printable
from controller.intake.upload import Place, Uploaded, Written, parse_upload, put_document, take_documents
from controller.intake.watcher import Watcher
from controller.intake.write import make_folder
from controller.plan.claims import Claim
from controller.plan.situation import Heir, Standing

FULL_S = 15.0
"""Between looks that read every byte; a tenth more or less, so that many services do not look at once."""
TICK_S = 0.4
"""Between checks that the directory is still the one that is watched, and that nobody wants us to stop."""
ECHOES_S = (0.3, 1.5)
"""The first files of a new folder can be missed by the watch, so that each bell is followed by these looks."""
ATTEMPTS = 5
"""How often an upload reads anew what a person keeps changing before it gives up."""


class Desired:
    """The specs in force, from the files of one directory; safe to use from any thread."""

    def __init__(self, root: Path, clock: Clock, ports: Ports) -> None:
        self._root = root
        self._clock = clock
        self._ports = ports
        self._lock = threading.RLock()
        self._bell = threading.Event()
        self._watcher = Watcher(root, self._bell.set)
        self._looks = Looks(root, clock, ports)

    def standing(self, app: str) -> Standing:
        """Return how *app* stands; an empty standing if the directory never held it."""
        return self._looks.shown.state.standings.get(app) or Standing(app=app)

    def standings(self) -> Mapping[str, Standing]:
        """Return how every app stands, gone ones included."""
        return self._looks.shown.state.standings

    def problems(self) -> tuple[FileProblem, ...]:
        """Return what is wrong with the directory, its source, and files whose app cannot be told."""
        shown, root = self._looks.shown, printable(self._root)
        troubles = (FileProblem(root, 1, f"{root}: {text}") for text in self._ports.origin.troubles())
        return (*shown.root_problem, *troubles, *shown.state.problems)

    def looked_at(self) -> int:
        """Return the greatest change number that the standings account for."""
        return self._looks.shown.looked_at

    def waits_for(self, app: str) -> tuple[tuple[Claim, str], ...]:
        """Return the claims that keep the app's newest document waiting, each with its owner."""
        return self._looks.shown.state.grants.waiting.get(app, ())

    def owners(self) -> Mapping[Claim, str]:
        """Return who has which claim, as of the last look."""
        return self._looks.shown.state.grants.owners

    def heirs(self, app: str, claims: Mapping[Claim, str]) -> Mapping[Claim, Heir]:
        """
        Return for each of *claims* the other app that asks for it, by a spec in force or once *app* lets go.

        The value of a claim is the app that it is kept for already; that counts until the first look.
        """
        shown = self._looks.shown
        found: dict[Claim, Heir] = {}
        for claim, kept_for in claims.items():
            before = [kept_for] if kept_for and not shown.looked_at else []
            others = [one for one in (*shown.state.heirs.get(claim, ()), *before) if one != app]
            if others:
                found[claim] = Heir(others[0], others[0] in shown.state.resting)
        return found

    def is_polling(self) -> bool:
        """Say whether changes are found by looking every second because the kernel gives no notice."""
        return not self._watcher.reliable

    def wake(self) -> None:
        """Look soon, and judge anew: a claim may have become free, or be kept."""
        self._looks.renew()
        self._bell.set()

    def look(self, *, full: bool = False) -> float:
        """Look at the directory now; return after how many seconds to look again even if nothing happens."""
        with self._lock:
            return self._looks.look(full=full)

    def upload(self, app: str, data: bytes, by: str) -> Uploaded:
        """
        Put the one document in *data* safely into the directory and take it up.

        Raises Refused with every problem, a line each; Retry if the disk or the store is busy or full.
        """
        document = parse_upload(app, data)
        with self._lock:
            change = self._ports.next_change()
            written = self._insist(lambda: self._put(app, data))[-1]
            self._looks.sign(app, document.digest, by, change)
            self._looks.look(urgent=True)
        self._ports.ring(app)
        warnings = tuple(warning.text for warning in document.warnings)
        return Uploaded(app=app, file=written.file, digest=document.digest, change=change, warnings=warnings)

    def delete(self, app: str) -> None:
        """Take the app's document out of the directory; its removal neither waits nor holds. Raises as `upload`."""
        with self._lock:
            self._looks.look(urgent=True)
            if app not in self.standings() and app not in self._ports.held(self.standings()).live:
                raise Refused(f"{app}: no such app in {printable(self._root)}")
            self._insist(lambda: self._take(app))
            self.forget_hold(app)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Look at nothing and write nothing meanwhile: many files change as one."""
        with self._lock:
            yield

    def forget_hold(self, app: str) -> None:
        """Let the removal of a gone app go on, whatever held it; nothing happens to one that is not gone."""
        with self._lock:
            self._looks.order_removal(app)
            self._looks.look(urgent=True)
        self._ports.ring(app)

    def run(self, stop: threading.Event) -> None:
        """Keep the standings true until *stop*."""
        ended = threading.Event()
        watching = threading.Thread(target=self._watcher.run, args=(ended,), name="intake-bell", daemon=True)
        if not self.standings() and not self._root.exists():
            # The first start ever: an empty directory to drop specs into. Later on a missing one is a fault.
            with suppress(OSError):
                self._root.mkdir(parents=True)
        watching.start()
        try:
            self._keep_looking(stop)
        finally:
            ended.set()
            self._watcher.renew()
            watching.join()
            self.close()

    def close(self) -> None:
        """Let go of the directory."""
        with self._lock:
            self._looks.ground.release()

    def _keep_looking(self, stop: threading.Event) -> None:
        agenda = _Agenda({"full": 0.0})
        while not stop.is_set():
            rang = self._bell.wait(min(TICK_S, agenda.wait_s(self._clock.now().steady)))
            self._bell.clear()
            now = self._clock.now().steady
            due = agenda.take(now)
            moved = self._looks.ground.has_moved()
            if rang or due or moved:
                again_s = self.look(full="full" in due)
                agenda.plan(now, again=min(again_s, POLL_S if self.is_polling() else again_s))
            if "full" in due:
                agenda.plan(now, full=FULL_S * random.uniform(0.9, 1.1))  # noqa: S311 - no secret
            if rang:
                agenda.plan(now, echo=ECHOES_S[0], late_echo=ECHOES_S[1])
            if moved:
                self._watcher.renew()

    def _insist(self, change: Callable[[], Iterator[Written]]) -> list[Written]:
        """Carry out a change of files on what was looked at last; a person's newer change is taken up first."""
        done = []
        for _ in range(ATTEMPTS):
            try:
                for written in change():
                    self._looks.trust(written.file, written.digest)
                    done.append(written)
            except Stale:
                continue
            return done
        raise Retry(f"{printable(self._root)}: its files keep changing; try again")

    def _put(self, app: str, data: bytes) -> Iterator[Written]:
        home = self._take_up(app)
        self._need_ours(app, home)
        uploads = self._ports.origin.uploads
        place = Place(self._root / uploads, may_be_link=not uploads)
        if uploads and home not in self._looks.seen and self._root.is_dir():
            make_folder(place.folder)
        yield put_document(app, data, self._looks.seen.get(home), place, self._tenants(home))

    def _take(self, app: str) -> Iterator[Written]:
        home = self._take_up(app)
        self._need_ours(app, home)
        yield from take_documents(app, self._looks.seen, home or None, self._tenants(home))

    def _take_up(self, app: str) -> str:
        """Record what a person last wrote into the app's file before anything replaces it; return the file."""
        self._looks.look(urgent=True)
        home = self.standing(app).file
        seen: Seen | None = self._looks.seen.get(home)
        if seen is not None and seen.sound:
            self._looks.trust(home, seen.digest)
            self._looks.look(urgent=True)
        return self.standing(app).file

    def _need_ours(self, app: str, home: str) -> None:
        """Raise KeptElsewhere where the app's file is not for us to change."""
        if home in self._looks.seen and (source := self._ports.origin.locked(home)):
            raise KeptElsewhere(f"{app} comes from {source} ({home}): change it in {source}")

    def _tenants(self, file: str) -> frozenset[str]:
        return frozenset(app for app, home in self._looks.shown.state.homes.items() if home == file)


@dataclass(slots=True)
class _Agenda:
    """The moments at which to look, by reason, in steady seconds."""

    moments: dict[str, float] = field(default_factory=dict)

    def plan(self, now: float, **in_s: float) -> None:
        self.moments.update((reason, now + seconds) for reason, seconds in in_s.items())

    def take(self, now: float) -> set[str]:
        due = {reason for reason, moment in self.moments.items() if moment <= now}
        for reason in due:
            del self.moments[reason]
        return due

    def wait_s(self, now: float) -> float:
        return max(0.0, min(self.moments.values(), default=now) - now)
