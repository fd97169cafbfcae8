"""
A whole small outside for the planner: engine, prober, workers and time, with every kind of trouble on demand.

Nothing here decides anything. It carries operations out, or fails them, and reacts only as far as it is told.
The laws of the house are checked at every operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from controller.plan.decide import decide
from controller.plan.foresee import imagine
from controller.plan.operations import (
    KeepLogs,
    KillReplica,
    Operation,
    PublishRoutes,
    RemoveReplica,
    ResolveImage,
    StartReplica,
    StopReplica,
)
from controller.plan.picture import Picture
from controller.plan.probing import candidate_of, judge_of, trial_id
from controller.plan.settle import settle
from controller.plan.situation import Decision, Done, Memory, Order, Release, Situation, Verb
from controller.plan.text import render_operation
from controller.routing.table import AppRoutes
from controller.spec.model import AppSpec, BlueGreen, Rolling
from controller.world.model import Replica, Resolution, Routing, Verdict
from tests.builders import a_situation, a_spec, a_standing
from tests.plan.lawbook import (
    begins_by_itself,
    history_is_wrong,
    may_be_without,
    nobody_is_left,
    two_writers,
    what_is_given_up,
)


class LawBroken(AssertionError):
    """A law of the house does not hold; the message has the story so far."""


@dataclass
class Fault:
    """What goes wrong in one pass: at which operation, and how."""

    at: int = 0
    how: str = "fail"
    """fail: not done, said so; lost: done, but reported as failed; crash: the controller dies just before it;
    crash_after: just after it, before anything is noted."""


@dataclass
class Outside:
    """One app's world; images whose name starts with `bad` never get ready, `dies` exit at once,
    `late` exit once they are routed, `sour` between their switch and their end of bake, `gone` cannot be pulled, `refused` cannot be started."""

    situation: Situation = field(default_factory=a_situation)
    story: list[str] = field(default_factory=list)
    answers: dict[int, str] = field(default_factory=dict)
    writing_calls: int = 0
    next_order: int = 0
    born: int = 0
    laws: bool = True
    killed: set[str] = field(default_factory=set)
    refuses: Callable[[AppRoutes], bool] = lambda _routes: False
    """Says which tables the workers could never take."""
    stillborn: bool = False
    """Replicas that come into being from now on never get ready."""
    backup: tuple[Memory, Mapping[int, Release]] | None = None
    given_up: frozenset[str] = frozenset()
    """Digests of the file that failed, or that a person took back: a person has to ask for them again."""
    hung: set[str] = field(default_factory=set)
    """Replicas that run, accept and answer nothing well any more."""

    # What people do.

    def ask(self, spec: AppSpec | None, **fields: object) -> None:
        """Put *spec* into the file; None: the app is gone."""
        self.story.append(f"-- file: {spec.image if spec else 'gone'} {spec.strategy.type if spec else ''}")
        standing = a_standing(spec, gone=spec is None, **fields)
        if standing.wanted != self.situation.standing.wanted:
            self.given_up = frozenset()
        self.situation = replace(self.situation, standing=standing)

    def order(self, verb: Verb, **fields: object) -> int:
        self.next_order += 1
        wanted = self.situation.standing.wanted
        base = {"id": self.next_order, "app": "shop", "verb": verb, "by": "kim", "at": self.situation.now}
        if verb == "apply" and wanted:
            base["digest"] = wanted.digest
        order = Order(**{**base, **fields})  # type: ignore[arg-type]
        self.story.append(f"-- order {order.id}: {verb} {fields or ''}")
        self.situation = replace(self.situation, orders=(*self.situation.orders, order))
        return order.id

    def back_up(self) -> None:
        """Keep what the history knows now; an empty one is another story (what runs is adopted)."""
        if self.situation.memory.last_release:
            self.backup = (self.situation.memory, self.situation.releases)

    def restore(self) -> None:
        """Have the history know no more than at the last backup; what runs goes on."""
        if self.backup is not None:
            self.story.append("-- an older backup is restored")
            memory, releases = self.backup
            self.situation = replace(self.situation, memory=memory, releases=releases, orders=())
            self.given_up = frozenset()
            self.restart_controller()

    # What the world does.

    @property
    def replicas(self) -> tuple[Replica, ...]:
        return self.situation.world.replicas

    def change(self, replica: Replica, **fields: object) -> None:
        changed = tuple(replace(r, **fields) if r.id == replica.id else r for r in self.replicas)  # type: ignore[arg-type]
        self._world(replicas=changed)

    def lose(self, replica: Replica) -> None:
        self._world(replicas=tuple(r for r in self.replicas if r.id != replica.id))

    def forget(self, name: str) -> None:
        """Lose one verdict."""
        left = {i: v for i, v in self.situation.world.verdicts.items() if i != name}
        self._world(verdicts=left)

    def rewrite(self, number: int, spec: AppSpec) -> None:
        """Have had another spec in a release all along, as an earlier version of ours may have let in."""
        release = replace(self.situation.releases[number], spec=spec)
        self.situation = replace(self.situation, releases={**self.situation.releases, number: release})

    def engine(self, up: bool) -> None:
        self._world(engine_up=up)

    def pass_time(self, seconds: float) -> None:
        self.situation = replace(self.situation, now=self.situation.now.later(seconds))

    def restart_controller(self) -> None:
        """All that only lived in memory is lost; the workers tell again what they have."""
        routing = self.situation.world.routing
        self._world(verdicts={}, resolutions={}, routing=replace(routing, published=routing.confirmed))

    def confirm(self) -> None:
        published = self.situation.world.routing.published
        self._world(routing=Routing(published=published, confirmed=published, drained=frozenset()))

    def drain(self) -> None:
        routing = self.situation.world.routing
        ready = {u.id for u in routing.confirmed.upstreams if u.state == "ready"} if routing.confirmed else set()
        drained = frozenset(r.id for r in self.replicas) - ready
        self._world(routing=replace(routing, drained=drained))

    def probe(self) -> None:
        """Ask every replica what the prober would ask it; a path below /bad is never answered well."""
        p, verdicts = Picture(self.situation), dict[str, Verdict]()
        for replica in self.replicas:
            if replica.state != "running" or replica.kind != "replica":
                continue
            judge, candidate = judge_of(p, replica), candidate_of(p, replica)
            if judge is not None:
                verdicts[replica.id] = self._ask(replica.id, replica, judge.spec)
            if candidate is not None:
                name = trial_id(replica, candidate)
                verdicts[name] = self._ask(name, replica, candidate.spec)
        self._world(verdicts=verdicts)

    def _ask(self, name: str, replica: Replica, spec: AppSpec) -> Verdict:
        now = self.situation.now.steady
        seen = self.situation.world.verdicts.get(name, Verdict(since=now))
        path = spec.health.path or "/"
        passes = not (path.startswith("/bad") or replica.id in self.hung or self._image(replica).startswith("bad"))
        if passes:
            since = seen.since if seen.ready else now
            return replace(seen, ready=True, ever_ready=True, accepts=True, since=since, answer=f"GET {path}: 200")
        since, fell = (now, 1) if seen.ready else (seen.since, 0)
        count = seen.unready_count + fell
        return replace(seen, ready=False, accepts=True, since=since, unready_count=count, answer=f"GET {path}: 503")

    def run_on(self) -> None:
        """Containers get on: the doomed exit, stopped ones and one-offs end."""
        for replica in self.replicas:
            image, leaving = self._image(replica), replica.id in self.situation.memory.stopping
            if replica.id in self.killed and replica.state in ("running", "paused"):
                self.killed.discard(replica.id)
                self.change(replica, state="exited", exit_code=137)
                continue
            if replica.state != "running":
                continue
            if replica.kind == "before":
                self.change(replica, state="exited", exit_code=1 if image.startswith("unmigratable") else 0)
            elif image.startswith("dies") or leaving:
                self.change(replica, state="exited", exit_code=0 if leaving else 1)
            elif self._spoils(image, replica):
                self.change(replica, state="exited", exit_code=139)

    def react(self) -> None:
        self.confirm()
        self.drain()
        self.run_on()
        self.probe()

    def _spoils(self, image: str, replica: Replica) -> bool:
        if image.startswith("sour"):
            return self._has_switched(replica)
        return image.startswith("late") and self._is_routed(replica)

    def _has_switched(self, replica: Replica) -> bool:
        rollout = self.situation.memory.rollout
        target = self.situation.releases.get(rollout.release) if rollout and rollout.switched else None
        return target is not None and target.container_digest == replica.digest

    def _is_routed(self, replica: Replica) -> bool:
        confirmed = self.situation.world.routing.confirmed
        return bool(confirmed) and any(u.id == replica.id and u.state == "ready" for u in confirmed.upstreams)

    def _image(self, replica: Replica) -> str:
        for release in self.situation.releases.values():
            if release.container_digest == replica.digest:
                return release.spec.image
        return ""

    def _world(self, **fields: object) -> None:
        self.situation = replace(self.situation, world=replace(self.situation.world, **fields))  # type: ignore[arg-type]

    # A pass.

    def pass_once(self, fault: Fault | None = None) -> Decision:
        """One pass, with at most one fault; every law is checked at every step."""
        before = self.situation
        decision = decide(before)
        answered = {a.order for a in decision.answers}
        self.answers |= {a.order: a.result for a in decision.answers}
        self.situation = replace(
            before,
            memory=decision.memory,
            releases={**before.releases, **{r.number: r for r in decision.releases}},
            orders=tuple(o for o in before.orders if o.id not in answered),
        )
        self.story += [f"      # {note.text.splitlines()[0]}" for note in decision.notes]
        if self.laws and (law := history_is_wrong(self.situation) or begins_by_itself(before, decision, self.given_up)):
            self._break(law)
        self.given_up = what_is_given_up(before, decision, self.given_up)
        done: list[Done] = []
        for number, operation in enumerate(decision.operations):
            here = fault if fault and fault.at == number else None
            if here and here.how == "crash":
                self.story.append("!! crash")
                self.restart_controller()
                return decision
            outcome = self._do(operation, here)
            if here and here.how == "crash_after":
                self.story.append("!! crash after")
                self.restart_controller()
                return decision
            done.append(outcome)
            if outcome.state != "done":
                break
        memory = settle(self.situation, decision.memory, tuple(done), self.situation.now)
        self.situation = replace(self.situation, memory=memory)
        return decision

    def _do(self, operation: Operation, fault: Fault | None) -> Done:
        text = render_operation("shop", operation)
        if fault and fault.how == "fail":
            self.story.append(f"!! {text}")
            return Done(operation, "failed", "engine busy")
        self.story.append(f"   {text}")
        table = self.situation.world.routing.published
        if self.laws:
            self._check_before(operation)
        if not isinstance(operation, PublishRoutes | KeepLogs | ResolveImage):
            self.writing_calls += 1
        if isinstance(operation, PublishRoutes) and operation.routes and self.refuses(operation.routes):
            return Done(operation, "failed", "the workers cannot take this table", wait=False)
        if isinstance(operation, StartReplica):
            image = self.situation.releases[operation.release].spec.image
            if image.startswith("refused"):
                return Done(operation, "failed", "exec: no such file", wait=False)
        if isinstance(operation, ResolveImage) and operation.ref.startswith("gone"):
            failed = Resolution(state="failed", error="no such image")
            self._world(resolutions={**self.situation.world.resolutions, operation.key: failed})
        elif isinstance(operation, KillReplica) and not self._is_already_down(operation):
            self.killed.add(operation.replica)  # a signal was sent; it ends when the world gets on
        elif not isinstance(operation, StopReplica) or self._is_already_down(operation):
            self.situation = replace(self.situation, world=imagine(self.situation, operation))
        self._name_newcomers()
        if self.laws:
            self._check_after(operation)
            if isinstance(operation, PublishRoutes) and (law := nobody_is_left(self.situation, table)):
                self._break(law)
        if fault and fault.how == "lost":
            return Done(operation, "failed", "reply lost")
        return Done(operation, "done", lines=("last words",))

    def _name_newcomers(self) -> None:
        """No two containers ever have the same id."""
        for replica in self.replicas:
            if "@" in replica.id:
                self.born += 1
                name = f"{replica.name}#{self.born}"
                self.change(replica, id=name)
                self.hung |= {name} if self.stillborn else set()

    def _is_already_down(self, operation: StopReplica | KillReplica) -> bool:
        return any(r.id == operation.replica and r.state != "running" for r in self.replicas)

    # The laws.

    def _break(self, law: str) -> None:
        raise LawBroken(f"{law}\n" + "\n".join(self.story[-60:]))

    def _check_before(self, operation: Operation) -> None:
        routing = self.situation.world.routing
        if isinstance(operation, StopReplica | KillReplica | RemoveReplica):
            one_off = any(r.id == operation.replica and r.kind != "replica" for r in self.replicas)
            for table in (routing.published, routing.confirmed):
                if not one_off and _routes_to(table, operation.replica):
                    self._break(f"law 1: {operation.name} is routed to and {type(operation).__name__} was planned")
        if isinstance(operation, RemoveReplica) and any(
            r.id == operation.replica and r.state in ("running", "paused") for r in self.replicas
        ):
            self._break(f"{operation.name} runs and was to be removed")

    def _check_after(self, operation: Operation) -> None:
        p = Picture(self.situation)
        if law := two_writers(self.situation, operation):
            self._break(law)
        if isinstance(operation, StartReplica):
            self._check_limits(p)
        if isinstance(operation, PublishRoutes):
            self._check_served(p, operation.routes)

    def _check_served(self, p: Picture, routes: AppRoutes | None) -> None:
        live, memory = p.live, p.s.memory
        if p.target is not None and may_be_without(p.target.spec):
            return  # the person asked for it
        if live is None or live.spec.replicas == 0 or p.s.standing.gone or memory.maintenance is not None:
            return
        if routes is None or routes.mode != "serve":
            if routes is None and live.spec.routes:
                self._break("law 2: the app left the table")
            return
        if p.ready(p.of(live)) and live.spec.port and not any(u.state == "ready" for u in routes.upstreams):
            rollout = memory.rollout
            if rollout is None or not rollout.switched:
                self._break("law 2: ready replicas of the live release, and nobody is routed")

    def _check_limits(self, p: Picture) -> None:
        rollout, target = p.s.memory.rollout, p.target
        if rollout is None or target is None or rollout.failing or rollout.switched:
            return
        strategy, wanted = target.spec.strategy, target.spec.replicas
        active = [r for r in p.replicas if r.state == "running" and not p.is_leaving(r) and self._counts(p, r)]
        live = p.live.spec.replicas if p.live else 0
        if isinstance(strategy, Rolling):
            most = max(wanted + strategy.limits(wanted)[0], live + 1)
            if len(active) > most:
                self._break(f"law 4: {len(active)} starting or serving, at most {most} allowed")
        if isinstance(strategy, BlueGreen) and len(p.of(target)) > wanted + len(target.spec.routes):
            running = [r for r in p.of(target) if r.state == "running" and not p.is_leaving(r)]
            if len(running) > wanted:
                self._break(f"law 4: {len(running)} of green, {wanted} wanted")

    def _counts(self, p: Picture, replica: Replica) -> bool:
        """Draining ones do not count: out of the table, or marked as leaving in it."""
        entry, target = p.entry(replica), p.target
        if replica.drift:
            return False
        if target is not None and replica.digest == target.container_digest:
            return True
        rollout = p.s.memory.rollout
        if rollout and replica.id in rollout.released:
            return False
        return entry is not None and entry.state == "ready"

    # To rest.

    def settle_down(self, most: int = 400) -> None:
        """Let everything react, without faults, until nothing moves any more."""
        if not self.situation.world.engine_up:
            self.engine(up=True)
        calm = 0
        for _ in range(most):
            before = self.situation
            decision = self.pass_once()
            self.react()
            is_calm = (
                not decision.operations and decision.memory == before.memory and before.world == self.situation.world
            )
            calm = calm + 1 if is_calm else 0
            if is_calm and decision.look_again_s is None:
                return
            if calm > 30:
                return
            self.pass_time(decision.look_again_s if is_calm and decision.look_again_s else 0.05)
        raise LawBroken("law 3: it does not come to rest\n" + "\n".join(self.story[-80:]))

    def check_rest(self) -> None:
        """Check that the rest is one of those that the third law allows."""
        p = Picture(self.situation)
        memory, standing, live = p.s.memory, p.s.standing, p.live
        said = f"memory {memory}\n"
        if standing.gone:
            if not memory.suspended and (self.replicas or p.s.world.routing.published is not None):
                self._break(f"law 3: gone and not removed\n{said}")
            return
        if memory.suspended or (memory.rollout and memory.rollout.waits_for == "promotion"):
            return
        if memory.rollout is not None:
            self._break(f"law 3: at rest with an open rollout\n{said}")
        self._check_what_serves(p)
        running = [r for r in p.replicas if r.state == "running"]
        wanted = live.spec.replicas if live else 0
        if len(running) != wanted or len(p.replicas) != wanted:
            names = [(r.name, r.state) for r in p.replicas]
            self._break(f"law 3: {names} at rest, {wanted} wanted\n{said}")
        if live and live.spec.port and wanted and memory.maintenance is None:
            routes = p.s.world.routing.confirmed
            if routes is None or routes.mode != "serve" or sum(u.state == "ready" for u in routes.upstreams) != wanted:
                self._break(f"law 3: not all are routed at rest: {routes}\n{said}")
        for release in p.s.releases.values():
            if release.outcome == "rolling_out":
                self._break(f"release {release.number} is rolling out for ever")

    def _check_what_serves(self, p: Picture) -> None:
        memory, wanted = p.s.memory, p.s.standing.wanted
        assert wanted is not None
        if p.live is not None and p.live.digest == wanted.digest:
            return
        failed = p.release(memory.failed)
        is_pinned = memory.pin is not None and memory.pin.digest == wanted.digest
        if not (is_pinned or memory.held or (failed and failed.digest == wanted.digest)):
            self._break(f"law 3: at rest, and neither where the file nor where a failure says\n{memory}")


def _routes_to(routes: AppRoutes | None, replica: str) -> bool:
    return routes is not None and any(u.id == replica and u.state in ("ready", "assets") for u in routes.upstreams)


def an_outside(**fields: object) -> Outside:
    """Return a world at rest with release 1 of the app serving."""
    outside = Outside(situation=a_situation(a_spec(**fields)))
    outside.settle_down()
    return outside
