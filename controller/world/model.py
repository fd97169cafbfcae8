"""Frozen pictures of the outside, taken once per pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from controller.routing.table import AppRoutes

ReplicaState = Literal["created", "running", "paused", "exited", "removing"]
ReplicaKind = Literal["replica", "before", "run"]
EngineHealth = Literal["none", "starting", "healthy", "unhealthy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One container of ours, as the engine shows it."""

    id: str
    """The engine's full container id; also the upstream's id in the table."""
    name: str
    app: str
    release: int
    """The release that it was made for (label); it may serve later ones with the same container part."""
    index: int
    """Its slot, from 1."""
    digest: str
    """Digest of the container part it was made from (label)."""
    image_id: str = ""
    kind: ReplicaKind = "replica"
    state: ReplicaState = "running"
    address: str | None = None
    """Where the proxy and the prober reach it; None where it has no port or no address now."""
    port: int | None = None
    created: float = 0.0
    started: float = 0.0
    """Wall seconds of its last start; 0 if never started."""
    finished: float = 0.0
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    """What the engine says about a failed start."""
    health: EngineHealth = "none"
    health_log: str = ""
    """The last line of the engine's own health check."""
    drift: str = ""
    """What a hand changed on it behind our back ("memory limit 64M, made with 128M"); empty: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the prober thinks of one replica."""

    ready: bool = False
    ever_ready: bool = False
    accepts: bool = False
    """The last probe reached it (for a TCP probe: connected), whatever it answered."""
    since: float = 0.0
    """Steady seconds since when `ready` is what it is."""
    passes: int = 0
    failures: int = 0
    """Probes that failed in a row."""
    unready_count: int = 0
    """How often it went from ready to unready; only grows."""
    answer: str = ""
    """The last answer in words: `GET /healthz: 503 Service Unavailable: "warming up"`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """An image reference being turned into an image id (pulled if the policy says so)."""

    state: Literal["running", "done", "failed"] = "running"
    image_id: str = ""
    healthcheck: bool = False
    """The image brings a HEALTHCHECK of its own."""
    progress: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """What the proxy has of one app."""

    published: AppRoutes | None = None
    """The newest that was handed to the publisher."""
    confirmed: AppRoutes | None = None
    """The newest that every rostered worker has confirmed; only this counts."""
    drained: frozenset[str] = frozenset()
    """Upstream ids that every rostered worker reported without open requests, draining or absent."""
    held: int = 0
    """Requests that wait because of mode hold."""

    @property
    def settled(self) -> bool:
        """Say whether what was published last is confirmed."""
        return self.published == self.confirmed


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What the workers counted of one release's answers; every number only grows."""

    requests: int = 0
    errors: int = 0
    """Answers from 500 up."""
    buckets: tuple[int, ...] = ()
    """Answers by latency, below each of `bounds`, and one more for the rest."""
    bounds: tuple[float, ...] = ()
    """Seconds."""

    @property
    def error_rate(self) -> float:
        """The share of errors, 0 to 1."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def p95_s(self) -> float:
        """The 95th percentile, estimated within its bucket; infinite where it lies beyond all bounds."""
        wanted, seen, lower = 0.95 * sum(self.buckets), 0, 0.0
        for count, bound in zip(self.buckets, self.bounds, strict=False):
            if count and seen + count >= wanted:
                return lower + (bound - lower) * (wanted - seen) / count
            seen, lower = seen + count, bound
        return float("inf") if wanted else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that one pass over one app may know of the outside."""

    engine_up: bool = True
    replicas: tuple[Replica, ...] = ()
    """The app's containers (one-offs too), sorted by (release, index, name)."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    routing: Routing = field(default_factory=Routing)
    resolutions: Mapping[str, Resolution] = field(default_factory=dict)
    """By key, as given in the ResolveImage operation."""
    traffic: Mapping[int, Traffic] = field(default_factory=dict)
    """By release; only while a canary is under way."""
    secret_versions: tuple[tuple[str, int], ...] = ()
    """Versions of all secrets that the app has, by name."""
