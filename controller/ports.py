"""
What the loop needs of the outside, in our words: the narrow waist.

Everything above meets everything below here. Every method is safe to call from several threads, returns
within ten seconds, and raises nothing but the four errors of `controller.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from controller.clock import Instant
from controller.plan.claims import Claim
from controller.plan.situation import Answer, Decision, Done, Memory, Order, Release, Standing
from controller.routing.table import AppRoutes
from controller.spec.model import Health
from controller.world.model import Replica, Resolution, Routing, Verdict

Ring = Callable[[str], None]
"""Rings the bell for one app; "" rings for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlan:
    """All that the engine edge needs to make one container; the rest is the same for all of ours."""

    app: str
    release: Release
    index: int
    kind: str = "replica"
    """replica, before, or run."""
    command: tuple[str, ...] | None = None
    """Instead of the spec's (before, run)."""
    secrets: Mapping[str, str] = None  # type: ignore[assignment]
    """Values for the environment, by name."""
    files: Mapping[str, str] = None  # type: ignore[assignment]
    """Secret files: name under /run/secrets -> host path."""


class Engine(Protocol):
    """The container engine, seen through our labels only."""

    def reachable(self) -> bool:
        """Say whether the last call or event proved that the engine answers."""
        ...

    def observe(self, app: str) -> tuple[Replica, ...]:
        """Return the app's containers as they are now, one-offs too, sorted by (release, index, name)."""
        ...

    def observe_all(self) -> Mapping[str, tuple[Replica, ...]]:
        """Return every app's containers from one list."""
        ...

    def start(self, plan: ContainerPlan) -> str:
        """Create and start a container (or start the one already created for it); return its id."""
        ...

    def restart(self, replica: str) -> None:
        """Start an exited container again; running already is success."""
        ...

    def signal_stop(self, replica: str) -> None:
        """Send the container's stop signal and return; unpause first if need be; exited is success."""
        ...

    def kill(self, replica: str) -> None:
        """Send SIGKILL; exited is success."""
        ...

    def remove(self, replica: str) -> None:
        """Remove a container that does not run, with its anonymous volumes; gone is success."""
        ...

    def tail(self, replica: str, lines: int = 20) -> tuple[str, ...]:
        """Return the last lines of its output, oldest first, each at most 500 characters."""
        ...

    def resolve(self, key: str, ref: str, policy: str) -> None:
        """Begin to turn *ref* into an image id in the puller's thread; rings the bell when done."""
        ...

    def resolutions(self, app: str) -> Mapping[str, Resolution]:
        """Return what `resolve` has come to, for keys that start with `app/`."""
        ...

    def has_image(self, image_id: str) -> bool:
        """Say whether the image is on the engine now."""
        ...

    def retain_images(self, keep: Collection[str]) -> None:
        """Remove images that releases of ours once used and nothing uses any more, but for *keep*."""
        ...

    def retain_networks(self, keep: Collection[str]) -> None:
        """Remove the networks of apps other than *keep* that nothing is left on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One replica that the prober watches."""

    replica: str
    app: str
    address: str | None
    port: int | None
    health: Health
    host: str
    """The Host header of an HTTP probe."""
    https: bool
    """Send X-Forwarded-Proto: https."""
    method: str
    """path (GET health.path), engine (its health verdict), root (GET / below 500), or alive."""
    started: float
    """Steady seconds at which its container started, as well as it is known."""
    verdict: str = "none"
    """The engine's own health word, for method engine."""
    engine_log: str = ""
    running: bool = True
    known_ready: bool = False
    """It is routed already (after a restart of ours): taken as ready until a probe says otherwise."""


class Prober(Protocol):
    """Watches replicas and keeps a verdict on each."""

    def watch(self, app: str, targets: Collection[Target]) -> None:
        """Watch exactly *targets* for this app from now on; unchanged ones keep their verdicts."""
        ...

    def verdicts(self, app: str) -> Mapping[str, Verdict]:
        """Return the verdicts by replica id; rings the bell whenever one changes in substance."""
        ...

    def doubt(self, replica: str) -> None:
        """A worker saw it refuse: probe at once."""
        ...


class Publisher(Protocol):
    """Hands tables to the proxy workers and knows what they confirmed."""

    def publish(self, app: str, routes: AppRoutes | None) -> None:
        """Make *routes* the app's entry; the same as before is success and sends nothing."""
        ...

    def foreign(self, app: str, claims: Collection[Claim]) -> frozenset[Claim]:
        """Return those of *claims* that the app cannot have now, because another has them."""
        ...

    def routing(self, app: str) -> Routing:
        """Return what is published, confirmed and drained for the app; rings the bell on change."""
        ...

    def apps(self) -> Collection[str]:
        """Return the names in the published table."""
        ...


class History(Protocol):
    """What cannot be seen from outside, kept in SQLite."""

    def load(self, app: str) -> tuple[Memory, Mapping[int, Release], tuple[Order, ...]]:
        """Return memory, known releases and open orders of the app (empty ones if unknown)."""
        ...

    def apps(self) -> Collection[str]:
        """Return every app that is not removed."""
        ...

    def intend(self, app: str, decision: Decision, now: Instant) -> None:
        """Write memory, releases, answers, notes and planned steps in one transaction; nothing if nothing is new."""
        ...

    def conclude(self, app: str, memory: Memory, done: tuple[Done, ...], now: Instant) -> None:
        """Write how the operations ended and the memory settled with it."""
        ...

    def order(self, order: Order) -> Order:
        """Store a new order under the next change number and return it."""
        ...

    def next_change(self) -> int:
        """Return a new change number, greater than all before it, also across restarts."""
        ...

    def answer(self, order: int) -> Answer | None:
        """Return what became of an order."""
        ...

    def save_standing(self, standing: Standing, change: int) -> None:
        """Keep the last good spec and the state of removal, for a restart while the file is broken."""
        ...

    def load_standings(self) -> Mapping[str, Standing]:
        """Return what `save_standing` kept."""
        ...
