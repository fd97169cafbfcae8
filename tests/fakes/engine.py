"""
A whole small container engine in memory, behind the same port as the real one.

What a hand, a crash or a bad network does to an engine can be done to this one on demand: `crash`, `pause`,
`vanish`, `fail_next`, `hang`, `up`. The tests in `tests/contract` run on it and on the real engine alike.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from controller.clock import Clock, SystemClock
from controller.errors import ControllerError, Refused, Retry, Stale
from controller.ports import ContainerPlan
from controller.world.model import EngineHealth, Replica, Resolution

HANG_LIMIT_S = 9.0
"""A call that hangs gives up after this time with `Retry`, as the real edge does."""


@dataclass(frozen=True, slots=True)
class Written:
    """One writing call that reached the engine."""

    verb: str
    """create, start, stop, kill, remove, pull or rmi."""
    app: str
    what: str
    """The container's name, or the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that can be had: already there, or from the registry that the fake has in mind."""

    id: str
    healthcheck: bool = False
    local: bool = True
    exits: int | None = None
    """A container of it ends with this code as soon as it is started."""
    refuses: str = ""
    """A start fails with this text, and nothing is left behind."""
    ignores_stop: bool = False
    pull_error: str = ""
    lines: tuple[str, ...] = ()
    """What a container of it prints when it starts."""


@dataclass
class _Fault:
    verb: str
    error: Callable[[], ControllerError]
    after: bool
    left: int
    app: str = ""


@dataclass
class _Box:
    replica: Replica
    lines: list[str] = field(default_factory=list)


class FakeEngine:
    """Implements `ports.Engine`; every attribute without underscore may be changed by a test at any time."""

    def __init__(self, ring: Callable[[str], None] = lambda app: None, clock: Clock | None = None) -> None:
        self.ring = ring
        self.clock = clock or SystemClock()
        self.up = True
        """False: every call is `Retry`, nothing is done."""
        self.any_image = True
        """Unknown references resolve to an id derived from their text; False: missing image."""
        self.images: dict[str, Image] = {}
        self.slow_pulls = False
        """True: a resolution runs until `finish_pull` is called."""
        self.before_exit: int | None = 0
        """How one-offs end as soon as they are started; None: they run until `crash`."""
        self.before_lines: tuple[str, ...] = ()
        self.place: Callable[[ContainerPlan, str], tuple[str, int | None]] | None = None
        """Where a started container is reached; by default its own 10.77.x.y and the spec's port."""
        self.networks: set[str] = set()
        """Apps whose network is there."""
        self.writes: list[Written] = []
        self.reads = 0
        self.plans: dict[str, ContainerPlan] = {}
        """By container id: what it was made from."""
        self._boxes: dict[str, _Box] = {}
        self._resolutions: dict[str, Resolution] = {}
        self._asked: dict[str, tuple[str, str]] = {}
        self._faults: list[_Fault] = []
        self._hangs: set[str] = set()
        self._lock = threading.RLock()
        self._freed = threading.Condition(self._lock)
        self._made = 0
        self._numbers: dict[str, int] = {}
        self._shown: set[str] = set()
        """Ids that somebody was told are running: a start for their slot means another one beside them."""

    # The port.

    def reachable(self) -> bool:
        return self.up

    def observe(self, app: str) -> tuple[Replica, ...]:
        with self._reading("observe", app):
            return self._of(app)

    def observe_all(self) -> Mapping[str, tuple[Replica, ...]]:
        with self._reading("observe", ""):
            apps: dict[str, list[Replica]] = {}
            for box in self._boxes.values():
                apps.setdefault(box.replica.app, []).append(box.replica)
            return {app: self._show(apps[app]) for app in sorted(apps)}

    def start(self, plan: ContainerPlan) -> str:
        with self._lock:
            known = self._same(plan)
            if known is None:
                with self._writing("create", plan.app, self._free_name(plan)):
                    known = self._create(plan)
            if self._boxes[known].replica.state == "created":
                with self._writing("start", plan.app, self._boxes[known].replica.name):
                    self._run(known)
            return known

    def restart(self, replica: str) -> None:
        with self._lock:
            seen = self._need(replica)
            if seen.state in ("running", "paused"):
                return
            with self._writing("start", seen.app, seen.name):
                self._run(replica)

    def signal_stop(self, replica: str) -> None:
        with self._lock:
            seen = self._need(replica)
            if seen.state not in ("running", "paused"):
                return
            with self._writing("stop", seen.app, seen.name):
                self._set(replica, state="running")
                if not self.image(seen.image_id).ignores_stop:
                    self._end(replica, 0)

    def kill(self, replica: str) -> None:
        with self._lock:
            seen = self._need(replica)
            if seen.state not in ("running", "paused"):
                return
            with self._writing("kill", seen.app, seen.name):
                self._end(replica, 137)

    def remove(self, replica: str) -> None:
        with self._lock:
            if replica not in self._boxes:
                return
            seen = self._boxes[replica].replica
            if seen.state in ("running", "paused"):
                raise Stale(f"{seen.name} runs; it is stopped before it is removed")
            with self._writing("remove", seen.app, seen.name):
                del self._boxes[replica]
            self.ring(seen.app)

    def tail(self, replica: str, lines: int = 20) -> tuple[str, ...]:
        with self._reading("tail", self._app_of(replica)):
            self._need(replica)
            return tuple(line[:500] for line in self._boxes[replica].lines[-lines:])

    def resolve(self, key: str, ref: str, policy: str) -> None:
        with self._lock:
            now = self._resolutions.get(key)
            if now is not None and now.state == "running":
                return
            self._check_up()
            self._asked[key] = (ref, policy)
            self._resolutions[key] = Resolution(progress="waiting")
            if not self.slow_pulls:
                self.finish_pull(key)

    def resolutions(self, app: str) -> Mapping[str, Resolution]:
        with self._lock:
            return {key: value for key, value in self._resolutions.items() if key.startswith(f"{app}/")}

    def has_image(self, image_id: str) -> bool:
        with self._reading("image", ""):
            known = [image for image in self.images.values() if image.id == image_id]
            return any(image.local for image in known) if known else self.any_image

    def retain_images(self, keep: Collection[str]) -> None:
        with self._lock:
            needed = set(keep) | {box.replica.image_id for box in self._boxes.values()}
            once_ours = {plan.release.image_id for plan in self.plans.values()}
            for ref, image in list(self.images.items()):
                if image.local and image.id in once_ours - needed:
                    with self._writing("rmi", "", ref):
                        self.images[ref] = replace(image, local=False)

    def retain_networks(self, keep: Collection[str]) -> None:
        with self._lock:
            self.networks &= {*keep, *(box.replica.app for box in self._boxes.values())}

    # Hands from outside.

    def replicas(self, app: str = "") -> tuple[Replica, ...]:
        """Return what exists, without counting as a call and whatever faults are set."""
        with self._lock:
            chosen = (box.replica for box in self._boxes.values() if app in ("", box.replica.app))
            return tuple(sorted(chosen, key=_order))

    def crash(self, replica: str, exit_code: int = 1, *, oom: bool = False, lines: Collection[str] = ()) -> None:
        """Let the container end by itself."""
        with self._lock:
            self._boxes[replica].lines.extend(lines)
            self._end(replica, exit_code, oom=oom)

    def pause(self, replica: str) -> None:
        """Pause it, as by `docker pause`."""
        self._touch(replica, state="paused")

    def unpause(self, replica: str) -> None:
        """Let it run on."""
        self._touch(replica, state="running")

    def vanish(self, replica: str) -> None:
        """Remove it by force, as by `docker rm -f`."""
        with self._lock:
            app = self._boxes.pop(replica).replica.app
            self.ring(app)

    def set_health(self, replica: str, health: EngineHealth, log: str = "") -> None:
        """Let the engine's own health check come to a word."""
        self._touch(replica, health=health, health_log=log)

    def drift(self, replica: str, text: str) -> None:
        """Change it behind our back."""
        self._touch(replica, drift=text)

    def say(self, replica: str, *lines: str) -> None:
        """Let it print lines."""
        with self._lock:
            self._boxes[replica].lines.extend(lines)

    def reboot(self) -> None:
        """End everything at once without a bell, as a machine does that loses power."""
        with self._lock:
            for key, box in self._boxes.items():
                if box.replica.state in ("running", "paused"):
                    self._set(key, state="exited", exit_code=255, address=None, finished=self.clock.now().wall)

    def add(self, replica: Replica) -> None:
        """Put a container there that this engine did not make, such as one from an earlier life of ours."""
        with self._lock:
            self._boxes[replica.id] = _Box(replica)

    def image(self, ref_or_id: str) -> Image:
        """Return the image known by this reference or id; a plain one if there is none."""
        for ref, image in self.images.items():
            if ref_or_id in (ref, image.id):
                return image
        return Image(id=ref_or_id)

    def finish_pull(self, key: str, error: str = "") -> None:
        """Let a resolution come to its end; rings."""
        with self._lock:
            ref, policy = self._asked[key]
            self._resolutions[key] = Resolution(state="failed", error=error) if error else self._pull(ref, policy)
        self.ring(key.split("/", 1)[0])

    # Trouble.

    def fail_next(
        self,
        times: int = 1,
        *,
        verb: str = "",
        app: str = "",
        after: bool = False,
        error: Callable[[], ControllerError] = lambda: Retry("the engine broke the connection; trying again"),
    ) -> None:
        """Let the next writing calls fail (all verbs, or one); with *after* they are done and the reply is lost."""
        with self._lock:
            self._faults.append(_Fault(verb, error, after, times, app))

    @contextmanager
    def hang(self, app: str = "") -> Iterator[None]:
        """Let every call about *app* ("" = any) hang until the block ends, or give up after 9 s."""
        with self._lock:
            self._hangs.add(app)
        try:
            yield
        finally:
            with self._freed:
                self._hangs.discard(app)
                self._freed.notify_all()

    def count(self, verb: str = "", app: str = "") -> int:
        """Return how many writing calls were made."""
        with self._lock:
            return sum(1 for done in self.writes if verb in ("", done.verb) and app in ("", done.app))

    # How it is done.

    def _of(self, app: str) -> tuple[Replica, ...]:
        return self._show([box.replica for box in self._boxes.values() if box.replica.app == app])

    def _show(self, found: list[Replica]) -> tuple[Replica, ...]:
        self._shown.update(each.id for each in found if each.state != "created")
        return tuple(sorted(found, key=_order))

    def _same(self, plan: ContainerPlan) -> str | None:
        if plan.kind == "run":
            return None
        same_app = ((key, box) for key, box in self._boxes.items() if box.replica.app == plan.app)
        for key, box in sorted(same_app, key=lambda each: each[0]):
            seen = box.replica
            made_for = (seen.app, seen.release, seen.index, seen.kind, seen.digest)
            wanted = (plan.app, plan.release.number, plan.index, plan.kind, plan.release.container_digest)
            begun = seen.state == "created" or (seen.state == "running" and key not in self._shown)
            if made_for == wanted and (begun or plan.kind == "before"):
                return key
        return None

    def _free_name(self, plan: ContainerPlan) -> str:
        last = plan.index if plan.kind == "replica" else plan.kind
        name = f"{plan.app}-r{plan.release.number}-{last}"
        taken = {box.replica.name for box in self._boxes.values() if box.replica.name.startswith(name)}
        suffixes = (name if n == 1 else f"{name}-{n}" for n in range(1, 10_000))
        return next(each for each in suffixes if each not in taken)

    def _create(self, plan: ContainerPlan) -> str:
        self._made += 1
        self.networks.add(plan.app)
        key = hashlib.sha256(f"{plan.app} {self._made}".encode()).hexdigest()
        self.plans[key], self._numbers[key] = plan, self._made
        self._boxes[key] = _Box(
            Replica(
                id=key,
                name=self._free_name(plan),
                app=plan.app,
                release=plan.release.number,
                index=plan.index,
                digest=plan.release.container_digest,
                image_id=plan.release.image_id,
                kind=plan.kind,  # type: ignore[arg-type]
                state="created",
                created=self.clock.now().wall,
            )
        )
        return key

    def _run(self, key: str) -> None:
        box, plan = self._boxes[key], self.plans.get(key)
        image = self.image(box.replica.image_id)
        if image.refuses:
            del self._boxes[key]
            raise Refused(image.refuses)
        address, port = self._where(key, plan)
        now = self.clock.now().wall
        self._set(key, state="running", started=now, address=address, port=port, exit_code=None)
        if plan is not None and plan.release.spec.health.command:
            self._set(key, health="starting")
        box.lines.extend(image.lines)
        one_off = box.replica.kind != "replica"
        if one_off:
            box.lines.extend(self.before_lines)
        ends = self.before_exit if one_off else image.exits
        if ends is not None:
            self._end(key, ends)
        else:
            self.ring(box.replica.app)

    def _where(self, key: str, plan: ContainerPlan | None) -> tuple[str | None, int | None]:
        if plan is None:
            return self._boxes[key].replica.address or "10.77.255.254", self._boxes[key].replica.port
        if self.place is not None:
            return self.place(plan, key)
        number = self._numbers[key]
        return f"10.{77 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}", plan.release.spec.port

    def _end(self, key: str, code: int, *, oom: bool = False) -> None:
        wall = self.clock.now().wall
        self._set(key, state="exited", exit_code=code, finished=wall, oom_killed=oom, address=None)
        self.ring(self._boxes[key].replica.app)

    def _set(self, key: str, **changes: object) -> None:
        self._boxes[key].replica = replace(self._boxes[key].replica, **changes)  # type: ignore[arg-type]

    def _touch(self, key: str, **changes: object) -> None:
        with self._lock:
            self._set(key, **changes)
            self.ring(self._boxes[key].replica.app)

    def _need(self, replica: str) -> Replica:
        if replica not in self._boxes:
            raise Stale(f"container {replica[:12]} is gone")
        return self._boxes[replica].replica

    def _app_of(self, replica: str) -> str:
        box = self._boxes.get(replica)
        return box.replica.app if box else ""

    def _pull(self, ref: str, policy: str) -> Resolution:
        image = self.images.get(ref)
        if image is None and self.any_image:
            image = self.images[ref] = Image(id=f"sha256:{hashlib.sha256(ref.encode()).hexdigest()}")
        if policy == "never" and (image is None or not image.local):
            return Resolution(state="failed", error=f"image {ref} is not on this machine and `pull: never` is set")
        if image is None:
            return Resolution(state="failed", error=f"image {ref} does not exist, or needs a login (`docker login`)")
        if policy == "always" or (policy == "missing" and not image.local):
            self.writes.append(Written("pull", "", ref))
            if image.pull_error:
                return Resolution(state="failed", error=image.pull_error)
            image = self.images[ref] = replace(image, local=True)
        return Resolution(state="done", image_id=image.id, healthcheck=image.healthcheck)

    def _check_up(self) -> None:
        if not self.up:
            raise Retry("the container engine does not answer; is dockerd running?")

    def _wait(self, app: str) -> None:
        def is_free() -> bool:
            return not self._hangs & {"", app}

        if not self._freed.wait_for(is_free, HANG_LIMIT_S):
            raise Retry("the container engine did not answer in time")

    @contextmanager
    def _reading(self, verb: str, app: str) -> Iterator[None]:
        with self._lock:
            self.reads += 1
            self._check_up()
            self._wait(app)
            for fault in [each for each in self._faults if each.verb == verb and each.app in ("", app)][:1]:
                self._spend(fault)
                raise fault.error()
            yield

    @contextmanager
    def _writing(self, verb: str, app: str, what: str) -> Iterator[None]:
        self._check_up()
        self._wait(app)
        chosen = [each for each in self._faults if each.verb in ("", verb) and each.app in ("", app)][:1]
        for fault in chosen:
            self._spend(fault)
            if not fault.after:
                raise fault.error()
        self.writes.append(Written(verb, app, what))
        yield
        for fault in chosen:
            raise fault.error()

    def _spend(self, fault: _Fault) -> None:
        fault.left -= 1
        if fault.left <= 0:
            self._faults.remove(fault)


def _order(replica: Replica) -> tuple[int, int, str]:
    return (replica.release, replica.index, replica.name)
