"""
The routing table: one frozen value, swapped whole by one assignment.

The controller builds it, workers read it. Its JSON form (`encode_app`, `decode_app`) goes over the feed
and into the snapshot; unknown fields are ignored, missing ones take their defaults, so that neighbouring
versions understand each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FORMAT = 1
"""Version of the JSON form; a reader takes its own and the one before."""

UpstreamState = Literal["ready", "draining", "assets", "gone"]
Group = Literal["live", "preview"]
Mode = Literal["serve", "hold", "maintenance"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One replica (or fixed target) that requests may go to."""

    id: str
    address: str
    port: int
    release: int
    group: Group = "live"
    state: UpstreamState = "ready"
    """ready: may be picked; draining: open requests may end; assets: asked only after a 404; gone: dead."""
    until: float | None = None
    """Steady seconds at which what is still open on a draining upstream is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One claim on the public side: host (exact, `*.suffix`, or None for any) and path prefix."""

    host: str | None = None
    path: str = "/"
    strip: bool = False
    group: Group = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderEdit:
    """Headers to set and to remove, applied in that order: remove, then set."""

    set: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """Requests per client address: *requests* every *per_s* seconds with bursts of *burst*."""

    requests: float
    per_s: float = 1.0
    burst: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """A path (or absolute URL) answered with *code* and the new place."""

    source: str
    to: str
    code: int = 301


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the proxy treats an app's requests; every field is one of the spec's `proxy` block."""

    timeout_s: float = 30.0
    idle_s: float | None = None
    """Between bytes; None: 300 s, and 3600 s for event streams and WebSockets."""
    body_limit_bytes: int = 100 * 1024**2
    max_in_flight: int = 1000
    https: Literal["auto", "allow", "redirect", "only"] = "auto"
    hsts_s: float = 0.0
    sticky: bool = False
    assets: tuple[str, ...] = ()
    request_headers: HeaderEdit = field(default_factory=HeaderEdit)
    response_headers: HeaderEdit = field(default_factory=HeaderEdit)
    basic_auth: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    rate_limit: RateLimit | None = None
    canonical_host: str | None = None
    redirects: tuple[Redirect, ...] = ()
    inspect: bool = False
    inspect_required: bool = False
    addons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRoutes:
    """Everything the proxy knows of one app; it replaces the app's earlier entry whole."""

    app: str
    rules: tuple[Rule, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    mode: Mode = "serve"
    hold_s: float = 30.0
    """Mode hold: each request's own longest wait."""
    message: str = ""
    """Mode maintenance: what people are told. It never applies to the preview group."""
    weights: tuple[tuple[int, int], ...] = ()
    """(release, weight) pairs; empty: all ready upstreams of the group share alike."""
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All apps at one version."""

    version: int = 0
    apps: Mapping[str, AppRoutes] = field(default_factory=dict)
    sticky_key: str = ""


def encode_app(routes: AppRoutes) -> dict[str, Any]:
    """Return *routes* as plain JSON values."""
    raise NotImplementedError


def decode_app(raw: Mapping[str, Any]) -> AppRoutes:
    """Read what `encode_app` (of this or a neighbouring version) wrote."""
    raise NotImplementedError
