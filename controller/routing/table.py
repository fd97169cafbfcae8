"""
The routing table: one frozen value, swapped whole by one assignment.

The controller builds it, workers read it. Its JSON form (`encode_app`, `decode_app`) goes over the feed
and into the snapshot; missing fields take their defaults and unknown ones are ignored, so that neighbouring
versions understand each other. But what a rule or a policy says and we do not know may keep somebody out: such an
entry is shut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
    announced: bool = False
    """Of a release that does not serve yet: asked only where no other rule matches, and answered with 503."""
    kept_for: str = ""
    """The app that takes this over once it is ready; until then it is answered here."""


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
    waiting: tuple[Rule, ...] = ()
    """What the app would serve if another had not got it; in force from the version in which that one lets go."""
    policy: Policy = field(default_factory=Policy)
    fault: str = ""
    """Why the entry cannot be served as it was meant: with one, all its rules answer 503."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All apps at one version."""

    version: int = 0
    apps: Mapping[str, AppRoutes] = field(default_factory=dict)
    sticky_key: str = ""


def encode_app(routes: AppRoutes) -> dict[str, Any]:
    """Return *routes* as plain JSON values; fields at their defaults are left out."""
    return {"app": routes.app} | _encode(routes, _APP)


def decode_app(raw: Mapping[str, Any]) -> AppRoutes:
    """
    Read what `encode_app` (of this or a neighbouring version) wrote.

    Missing fields take their defaults, and unknown ones are ignored; one of a rule or a policy shuts the entry.
    Raises ValueError where a known field cannot be read.
    """
    try:
        found = {"app": str(raw["app"]), **_decode(raw, _APP)}
        strange = [f"{name}.{inner}" for name in _CLOSED for inner in _APP[name][0].strange(raw.get(name, ()))]
        if strange:
            found["fault"] = f"{', '.join(sorted(set(strange)))}: this version does not know it"
        return AppRoutes(**found)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"route entry cannot be read: {error!r}") from error


def decode_rules(raw: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Return the rules of an encoded entry, without those that say something that we do not know."""
    kind, _ = _APP["rules"]
    return tuple(kind.back([rule for rule in raw.get("rules", ()) if not tuple(kind.strange([rule]))]))


def decode_upstreams(raw: Mapping[str, Any]) -> tuple[Upstream, ...]:
    """Return the upstreams of an encoded entry."""
    kind, _ = _APP["upstreams"]
    return tuple(kind.back(raw.get("upstreams", [])))


def encode_table(table: Table) -> dict[str, Any]:
    """Return the whole table as plain JSON values, as the snapshot holds it."""
    apps = {name: encode_app(routes) for name, routes in sorted(table.apps.items())}
    return {"format": FORMAT, "version": table.version, "sticky_key": table.sticky_key, "apps": apps}


class _Kind:
    """How one field goes to JSON and back; the default is "as it is"."""

    def __init__(
        self,
        out: Callable[[Any], Any] = lambda value: value,
        back: Callable[[Any], Any] = lambda value: value,
        strange: Callable[[Any], Iterable[str]] = lambda _: (),
    ) -> None:
        self.out = out
        self.back = back
        self.strange = strange
        """Names in an encoded value that we do not know."""


_Fields = Mapping[str, tuple[_Kind, Any]]
"""Field name -> how it is written, and the default that is left out."""


def _encode(value: Any, fields: _Fields) -> dict[str, Any]:
    pairs = ((name, getattr(value, name), kind, default) for name, (kind, default) in fields.items())
    return {name: kind.out(item) for name, item, kind, default in pairs if item != default}


def _decode(raw: Mapping[str, Any], fields: _Fields) -> dict[str, Any]:
    return {name: kind.back(raw[name]) for name, (kind, _) in fields.items() if name in raw}


def _fields_of(sample: Any, kinds: Mapping[str, _Kind], required: tuple[str, ...] = ()) -> _Fields:
    """List the fields of a dataclass with the defaults that *sample* shows; required ones are always written."""
    names = tuple(type(sample).__dataclass_fields__)
    return {name: (kinds.get(name, _PLAIN), _NEVER if name in required else getattr(sample, name)) for name in names}


def _record(build: Callable[..., Any], fields: _Fields) -> _Kind:
    return _Kind(
        lambda value: _encode(value, fields),
        lambda raw: build(**_decode(_be(dict, raw), fields)),
        lambda raw: _find_strange(raw, fields),
    )


def _many(kind: _Kind) -> _Kind:
    return _Kind(
        lambda values: [kind.out(value) for value in values],
        lambda raw: tuple(map(kind.back, _be(list, raw))),
        lambda raw: [name for item in raw for name in kind.strange(item)],
    )


def _be[T](kind: type[T], raw: Any) -> T:
    # Walking over an object in place of a list, or asking a text for a name, would quietly end in "no policy".
    if not isinstance(raw, kind):
        raise TypeError(f"found {type(raw).__name__}, allowed: {kind.__name__}")
    return raw


def _find_strange(raw: Mapping[str, Any], fields: _Fields) -> Iterable[str]:
    for name, value in raw.items() if isinstance(raw, dict) else ():
        if name not in fields:
            yield name
        else:
            yield from (f"{name}.{inner}" for inner in fields[name][0].strange(value))


_NEVER = object()
_PLAIN = _Kind()
_TEXTS = _many(_PLAIN)
_PAIR = _Kind(list, tuple)
_UPSTREAM = _fields_of(
    Upstream(id="", address="", port=0, release=0), {}, required=("id", "address", "port", "release")
)
_RULE = _fields_of(Rule(), {})
_EDIT = _record(HeaderEdit, _fields_of(HeaderEdit(), {"set": _many(_PAIR), "remove": _TEXTS}))
_RATE = _record(RateLimit, _fields_of(RateLimit(requests=0), {}, required=("requests",)))
_REDIRECT = _record(Redirect, _fields_of(Redirect(source="", to=""), {}, required=("source", "to")))
_POLICY = _fields_of(
    Policy(),
    {
        "assets": _TEXTS,
        "request_headers": _EDIT,
        "response_headers": _EDIT,
        "basic_auth": _TEXTS,
        "allow": _TEXTS,
        "rate_limit": _RATE,
        "redirects": _many(_REDIRECT),
        "addons": _TEXTS,
    },
)
_APP = {
    name: entry
    for name, entry in _fields_of(
        AppRoutes(app=""),
        {
            "rules": _many(_record(Rule, _RULE)),
            "waiting": _many(_record(Rule, _RULE)),
            "upstreams": _many(_record(Upstream, _UPSTREAM)),
            "weights": _many(_PAIR),
            "policy": _record(Policy, _POLICY),
        },
    ).items()
    if name != "app"
}
_CLOSED = ("rules", "policy")
"""Parts of an entry of which nothing may be ignored."""
