"""
A service with everything real behind its doors but the loop: the store, the views, the orders and the API on a
Unix socket are ours; what a pass would decide is played from a script, one move after the other.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from controller.api.parts import Parts
from controller.api.server import ApiThread, build_api
from controller.api.sockets import Listening, open_socket
from controller.clock import SystemClock
from controller.errors import Refused, Retry
from controller.fixed import Fence, Keeper
from controller.orders import Orders
from controller.plan.situation import (
    Answer,
    Decision,
    Memory,
    Order,
    Release,
    Rollout,
    Situation,
    Standing,
    Wanted,
)
from controller.ports import Target
from controller.queries import ReadModel
from controller.routing.table import AppRoutes, Rule, Table, Upstream
from controller.spec.digest import digest_spec
from controller.spec.model import AppSpec
from controller.spec.parse import parse_file
from controller.store.store import Store
from controller.tls import Certificates
from controller.world.model import Replica, Routing, Verdict, World

DEADLINE_S = 30.0

Play = Callable[["Stage", Order], None]


class Directory:
    """The watched directory, as far as the doors see it."""

    def __init__(self, next_change: Callable[[], int]) -> None:
        self._next_change = next_change
        self.known: dict[str, Standing] = {}
        self.lost: list[Any] = []

    def upload(self, app: str, data: bytes, by: str) -> Any:
        parsed = parse_file(data, f"{app}.yaml")
        if parsed.problems:
            raise Refused("\n".join(problem.text for problem in parsed.problems))
        [document] = parsed.documents
        assert document.spec is not None
        if document.name != app:
            raise Refused(f"{app}.yaml:1: name: found {document.name}, allowed: {app}")
        wanted = Wanted(spec=document.spec, digest=document.digest, file=f"desired/{app}.yaml", by=by)
        self.known[app] = Standing(app=app, wanted=wanted, file=wanted.file)
        return SimpleNamespace(app=app, file=wanted.file, digest=document.digest, change=self._next_change())

    def delete(self, app: str) -> None:
        self.known[app] = Standing(app=app, gone=True)

    def standings(self) -> Mapping[str, Standing]:
        return dict(self.known)

    def standing(self, app: str) -> Standing:
        return self.known.get(app) or Standing(app=app)

    def problems(self) -> Sequence[Any]:
        return self.lost

    def is_polling(self) -> bool:
        return False


class Session:
    """A process that answers what it is told to."""

    def __init__(self, answer: Callable[[bytes], bytes], code: int = 0) -> None:
        self._answer, self._code = answer, code
        self._in: queue.Queue[bytes | None] = queue.Queue()
        self.sizes: list[tuple[int, int]] = []
        self.closed = threading.Event()

    def frames(self) -> Iterator[tuple[int, bytes]]:
        yield 2, b"to stderr\n"
        while (data := self._in.get()) is not None:
            yield 1, self._answer(data)

    def send(self, data: bytes) -> None:
        self._in.put(data)

    def end_input(self) -> None:
        self._in.put(None)

    def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    def exit_code(self) -> int:
        return self._code

    def close(self) -> None:
        self.closed.set()
        self._in.put(None)


class Log:
    """Lines of a container; with follow, more as they are written."""

    def __init__(self, lines: Sequence[tuple[float, str]], follow: bool) -> None:
        self._queue: queue.Queue[tuple[float, str] | None] = queue.Queue()
        for line in lines:
            self._queue.put(line)
        self.closed = threading.Event()
        if not follow:
            self._queue.put(None)

    def write(self, wall: float, text: str) -> None:
        self._queue.put((wall, text))

    def __iter__(self) -> Iterator[Any]:
        while (line := self._queue.get()) is not None:
            yield SimpleNamespace(wall=line[0], text=line[1])

    def close(self) -> None:
        self.closed.set()
        self._queue.put(None)


class Engine:
    """What people look into."""

    def __init__(self) -> None:
        self.up = True
        self.calls = 0
        self.containers: dict[str, tuple[Replica, ...]] = {}
        self.written: dict[str, list[tuple[float, str]]] = {}
        self.open_logs: list[Log] = []
        self.sessions: list[Session] = []
        self.plans: list[Any] = []
        self.start_session: Callable[[Sequence[str]], Session] = lambda command: Session(bytes.upper)

    def reachable(self) -> bool:
        return self.up

    def doctor(self) -> tuple[Any, ...]:
        return (SimpleNamespace(what="engine", state="ok", text="Docker 20.10", mend=""),)

    def observe(self, app: str) -> tuple[Replica, ...]:
        self.calls += 1
        if not self.up:
            raise Retry("the engine is not reachable")
        return self.containers.get(app, ())

    def logs(self, replica: str, *, follow: bool = False, tail: int | None = None, since: float | None = None) -> Log:
        lines = [line for line in self.written.get(replica, []) if since is None or line[0] >= since]
        log = Log(lines if tail is None else lines[len(lines) - tail :] if tail else [], follow)
        self.open_logs.append(log)
        return log

    def exec_stream(self, replica: str, command: Sequence[str], *, tty: bool = False) -> Session:
        session = self.start_session(command)
        self.sessions.append(session)
        return session

    def run_oneoff(self, plan: Any, *, tty: bool = False) -> Session:
        self.plans.append(plan)
        session = self.start_session(plan.command)
        self.sessions.append(session)
        return session


class Publisher:
    """What the proxy has."""

    def __init__(self) -> None:
        self.entries: dict[str, AppRoutes] = {}
        self.meters: dict[str, Any] = {}

    def table(self) -> Table:
        return Table(version=1, apps=self.entries)

    def counters(self) -> Mapping[str, Any]:
        return self.meters

    def workers(self) -> dict[int, int]:
        return {1: 1}

    def is_current(self) -> bool:
        return True

    def publish(self, app: str, routes: AppRoutes | None) -> None:
        self.entries.pop(app, None)
        if routes is not None:
            self.entries[app] = routes

    def routing(self, app: str) -> Routing:
        return Routing(published=self.entries.get(app), confirmed=self.entries.get(app))

    def apps(self) -> Collection[str]:
        return tuple(self.entries)


class Prober:
    """Finds every target ready."""

    def __init__(self) -> None:
        self.watched: dict[str, tuple[Target, ...]] = {}

    def watch(self, app: str, targets: Collection[Target]) -> None:
        self.watched[app] = tuple(targets)

    def verdicts(self, app: str) -> Mapping[str, Verdict]:
        return {target.replica: Verdict(ready=True) for target in self.watched.get(app, ())}


@dataclass
class Stage:
    """One service; `play` says how orders are met."""

    path: Path
    plays: dict[str, Play] = field(default_factory=dict)
    settings: Any = None

    def __post_init__(self) -> None:
        self.clock = SystemClock()
        self.store = Store(self.path / "database.db", self.clock)
        self.directory = Directory(self.store.next_change)
        self.engine = Engine()
        self.publisher = Publisher()
        self.certificates = Certificates(self.path / "certificates", self.clock, lambda pairs: None)
        fence = Fence(own_ports=frozenset((3080,)))
        self.fixed = Keeper(self.store.fixed_routes, self.publisher, Prober(), self.clock, lambda: fence)
        self.model = ReadModel()
        self.worlds: dict[str, World] = {}
        self.socket = self.path / "oton.sock"
        self.orders = Orders(self.store, self.directory, self._rung.put, self.clock)
        self.parts = Parts(
            ledger=self.store,
            directory=self.directory,
            engine=self.engine,
            publisher=self.publisher,
            model=self.model,
            orders=self.orders,
            clock=self.clock,
            preview=lambda situation, spec: (f"start {spec.name}-r{situation.memory.last_release + 1}-1",),
            version="1.2.3",
            instance="abcdef012345",
            settings=self.settings,
            certificates=self.certificates,
            fixed=self.fixed,
        )

    @property
    def _rung(self) -> queue.Queue[str | None]:
        found: queue.Queue[str | None] = self.__dict__.setdefault("_bell", queue.Queue())
        return found

    @contextmanager
    def open(self) -> Iterator[Stage]:
        """Run the store, the API and the script until the block ends."""
        stop = threading.Event()
        self.api = build_api(self.parts)
        api = ApiThread(self.api, Listening((open_socket(self.socket),)))
        threads = [
            threading.Thread(target=self.store.run, args=(stop,), name="store"),
            threading.Thread(target=api.run, args=(stop,), name="api"),
            threading.Thread(target=self._play_all, name="script"),
        ]
        try:
            threads[0].start()
            self.store.wait_open()
            for thread in threads[1:]:
                thread.start()
            assert api.started.wait(DEADLINE_S)
            yield self
        finally:
            self._rung.put(None)
            for thread in threads[2:0:-1]:
                stop.set() if thread is threads[1] else None
                thread.join(DEADLINE_S)
            stop.set()
            threads[0].join(DEADLINE_S)
            assert not any(thread.is_alive() for thread in threads)

    def client(self) -> httpx.Client:
        """Return a client on the socket."""
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket), verify=False),
            base_url="http://oton",
            timeout=DEADLINE_S,
        )

    def _play_all(self) -> None:
        while (app := self._rung.get()) is not None:
            for order in self.store.load(app)[2]:
                play = self.plays.get(order.verb, turn_down)
                play(self, order)

    # What a pass does.

    def decide(
        self,
        app: str,
        *,
        memory: Memory | None = None,
        releases: Sequence[Release] = (),
        answer: Answer | None = None,
        world: World | None = None,
        standing: Standing | None = None,
    ) -> None:
        """Play one pass over the app that comes to these values."""
        before, known, orders = self.store.load(app)
        if world is not None:
            self.worlds[app] = world
        after = memory if memory is not None else before
        if answer is not None:
            after = replace(after, change=max(after.change, answer.order))
        situation = Situation(
            app=app,
            standing=standing or self.directory.standing(app),
            memory=before,
            world=self.worlds.get(app, World()),
            now=self.clock.now(),
            releases=known,
            orders=orders,
        )
        decision = Decision(memory=after, releases=tuple(releases), answers=(answer,) if answer else ())
        self.store.intend(app, decision, self.clock.now())
        self.model.put(app, situation, decision)

    def begin(self, order: Order, **rollout: Any) -> Release:
        """Play the beginning of a rollout to the spec that the directory has now, answering the order with it."""
        memory = self.store.load(order.app)[0]
        wanted = self.directory.standing(order.app).wanted
        spec = wanted.spec if wanted is not None else a_spec(name=order.app)
        release = a_release(memory.last_release + 1, spec, started=self.clock.now(), by=order.by)
        going = Rollout(**({"release": release.number, "previous": memory.live, "phase": "starting"} | rollout))
        self.decide(
            order.app,
            memory=replace(memory, last_release=release.number, rollout=going),
            releases=[release],
            answer=Answer(order=order.id, result="release", release=release.number),
        )
        return release

    def finish(self, app: str, outcome: str = "live", message: str = "") -> None:
        """Play the end of the rollout under way."""
        memory, releases, _ = self.store.load(app)
        assert memory.rollout is not None
        number, good = memory.rollout.release, outcome == "live"
        release = replace(releases[number], outcome=outcome, was_live=good, message=message, finished=self.clock.now())
        live = number if good else memory.live
        failed = number if outcome == "failed" else None
        world = a_world(app, replace(release, number=live), self.publisher) if live is not None else World()
        self.decide(
            app,
            memory=replace(memory, rollout=None, live=live, failed=failed, removed=False),
            releases=[release],
            world=world,
        )

    def bring_up(self, app: str = "shop", **fields: Any) -> None:
        """Have the app live at its next release, as if its file had asked for it."""
        spec = a_spec(name=app, **fields)
        wanted = Wanted(spec=spec, digest=digest_spec(spec), file=f"desired/{app}.yaml")
        self.directory.known[app] = Standing(app=app, wanted=wanted, file=wanted.file)
        memory = self.store.load(app)[0]
        release = a_release(memory.last_release + 1, spec, started=self.clock.now(), by="file")
        going = Rollout(release=release.number, previous=memory.live)
        self.decide(app, memory=replace(memory, last_release=release.number, rollout=going), releases=[release])
        self.finish(app)


def a_spec(**fields: Any) -> AppSpec:
    """Return a small web app."""
    base = {"name": "shop", "image": "shop:1", "port": 8000, "routes": [{"host": "shop.example.com"}]}
    return AppSpec.model_validate(base | fields)


def a_release(number: int, spec: AppSpec, **fields: Any) -> Release:
    """Return a release of *spec*."""
    base = {"image_id": f"sha256:{number:064d}", "container_digest": f"c{number}", "reason": "file changed"}
    return Release(number=number, spec=spec, digest=digest_spec(spec), **(base | fields))


def a_world(app: str, release: Release, publisher: Publisher) -> World:
    """Return a world in which the release's replicas are ready and routed."""
    replicas = tuple(
        Replica(
            id=f"{app}{release.number}{index}" + "0" * 8,
            name=f"{app}-r{release.number}-{index}",
            app=app,
            release=release.number,
            index=index,
            digest=release.container_digest,
            address=f"10.0.0.{index}",
            port=8000,
            started=1_700_000_000.0,
        )
        for index in range(1, release.spec.replicas + 1)
    )
    upstreams = tuple(
        Upstream(id=one.id, address=one.address or "", port=8000, release=one.release) for one in replicas
    )
    rules = tuple(Rule(host=route.host, path=route.path) for route in release.spec.routes)
    routes = AppRoutes(app=app, rules=rules, upstreams=upstreams)
    publisher.entries[app] = routes
    verdicts = {one.id: Verdict(ready=True, ever_ready=True, answer="GET /: 200 OK") for one in replicas}
    return World(replicas=replicas, verdicts=verdicts, routing=Routing(published=routes, confirmed=routes))


# How orders are met.


def turn_down(stage: Stage, order: Order) -> None:
    """Answer that it conflicts."""
    stage.decide(order.app, answer=Answer(order=order.id, result="conflict", text=f"nothing to {order.verb}"))


def answering(result: str, text: str = "", **memory: Any) -> Play:
    """Return a play that only answers."""

    def play(stage: Stage, order: Order) -> None:
        after = replace(stage.store.load(order.app)[0], **memory)
        stage.decide(order.app, memory=after, answer=Answer(order=order.id, result=result, text=text))  # type: ignore[arg-type]

    return play


def rolling_out(outcome: str = "live", message: str = "") -> Play:
    """Return a play that begins a release and brings it to an end."""

    def play(stage: Stage, order: Order) -> None:
        stage.begin(order)
        stage.finish(order.app, outcome, message)

    return play


def staying(**rollout: Any) -> Play:
    """Return a play that begins a release and leaves it under way."""

    def play(stage: Stage, order: Order) -> None:
        stage.begin(order, **rollout)

    return play


def removing(stage: Stage, order: Order) -> None:
    """Remove the app."""
    memory = replace(stage.store.load(order.app)[0], live=None, removed=True)
    stage.worlds[order.app] = World()
    stage.publisher.entries.pop(order.app, None)
    stage.decide(order.app, memory=memory, answer=Answer(order=order.id, result="done", text="removed"))
