"""A loop with a real store and a fake outside: passes by hand, on a clock that the test moves."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from controller.clock import Instant
from controller.loop.handover import NoSecrets
from controller.loop.observe import Ports
from controller.loop.reconcile import Again, reconcile
from controller.plan.claims import Claim
from controller.plan.situation import Memory, Order, Release, Standing, Verb
from controller.ports import Target
from controller.routing.table import AppRoutes
from controller.spec.model import AppSpec
from controller.store import Store
from controller.world.model import Routing, Verdict
from tests.builders import a_standing, at
from tests.fakes.engine import FakeEngine


@dataclass
class MovingClock:
    """A clock that stands until it is moved."""

    moment: Instant = field(default_factory=at)

    def now(self) -> Instant:
        return self.moment

    def move(self, seconds: float) -> None:
        self.moment = self.moment.later(seconds)


class ReadyProber:
    """Finds everything ready that runs, but for what `sick` names."""

    def __init__(self) -> None:
        self.watched: dict[str, tuple[Target, ...]] = {}
        self.sick: set[str] = set()

    def watch(self, app: str, targets: Collection[Target]) -> None:
        self.watched[app] = tuple(targets)

    def verdicts(self, app: str) -> Mapping[str, Verdict]:
        return {t.replica: self._judge(t) for t in self.watched.get(app, ()) if t.running}

    def _judge(self, target: Target) -> Verdict:
        if target.replica in self.sick:
            return Verdict(answer="GET /: 503")
        return Verdict(ready=True, ever_ready=True, accepts=True)

    def doubt(self, replica: str) -> None:
        self.sick.add(replica)


class PromptPublisher:
    """Workers that confirm and drain at once."""

    def __init__(self) -> None:
        self.entries: dict[str, AppRoutes] = {}
        self.versions = 0

    def publish(self, app: str, routes: AppRoutes | None) -> None:
        if routes is None:
            self.entries.pop(app, None)
        else:
            self.entries[app] = routes
        self.versions += 1

    def foreign(self, app: str, claims: Collection[Claim]) -> frozenset[Claim]:
        return frozenset()

    def routing(self, app: str) -> Routing:
        routes = self.entries.get(app)
        leaving = frozenset(u.id for u in routes.upstreams if u.state != "ready") if routes else frozenset()
        return Routing(published=routes, confirmed=routes, drained=leaving)

    def apps(self) -> Collection[str]:
        return tuple(self.entries)


class Shelf:
    """A watched directory that holds what the test put there."""

    def __init__(self) -> None:
        self.specs: dict[str, Standing] = {}

    def standing(self, app: str) -> Standing:
        return self.specs.get(app, Standing(app=app))


@dataclass
class House:
    """One loop and all that it touches."""

    store: Store
    clock: MovingClock = field(default_factory=MovingClock)
    engine: FakeEngine = field(default_factory=FakeEngine)
    prober: ReadyProber = field(default_factory=ReadyProber)
    publisher: PromptPublisher = field(default_factory=PromptPublisher)
    shelf: Shelf = field(default_factory=Shelf)

    def __post_init__(self) -> None:
        self.engine.clock = self.clock
        self.ports = Ports(
            engine=self.engine,
            prober=self.prober,
            publisher=self.publisher,
            history=self.store,
            directory=self.shelf,
            clock=self.clock,
            secrets=NoSecrets(),
        )

    def ask(self, spec: AppSpec) -> None:
        self.shelf.specs[spec.name] = replace(a_standing(spec), app=spec.name)

    def order(self, verb: Verb, app: str = "shop") -> int:
        return self.store.order(Order(id=0, app=app, verb=verb, by="kim", at=self.clock.now())).id

    def pass_once(self, app: str = "shop") -> Again:
        again = reconcile(app, self.ports)
        self.clock.move(0.01)
        return again

    def settle(self, app: str = "shop", most: int = 100) -> int:
        """Pass until nothing is left to do; return the number of passes."""
        for number in range(most):
            again = self.pass_once(app)
            if again.in_s is None and not again.was_trouble:
                return number + 1
            self.clock.move(again.in_s or 0.2)
        raise AssertionError("it does not come to rest")

    def memory(self, app: str = "shop") -> Memory:
        return self.store.load(app)[0]

    def releases(self, app: str = "shop") -> Mapping[int, Release]:
        return self.store.load(app)[1]


@contextmanager
def a_house(folder: Path) -> Iterator[House]:
    """Open a house whose store lies in *folder*; a second one on the same folder is the same after a restart."""
    clock = MovingClock()
    store = Store(folder / "database.db", clock, state=folder)
    stop = threading.Event()
    thread = threading.Thread(target=store.run, args=(stop,), daemon=True)
    thread.start()
    store.wait_open()
    try:
        yield House(store=store, clock=clock)
    finally:
        stop.set()
        thread.join(10)
