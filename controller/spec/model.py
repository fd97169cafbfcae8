"""
The whole spec of one app, as frozen values.

Field names are those of the YAML; durations are seconds, sizes bytes, lists tuples. What a file may say in
several ways (short and long forms, lists and mappings) has one form here, so equal specs are equal values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from controller.spec.base import Part
from controller.spec.container import (
    CONTAINER_FIELDS,
    Capabilities,
    Directory,
    Environment,
    ExtraHosts,
    Hostname,
    Image,
    Labels,
    Networks,
    Signal,
    Tmpfs,
    User,
)
from controller.spec.faults import Fault, allowed, faulty
from controller.spec.health import Health, Route
from controller.spec.limits import Resources, SecretRef, Secrets, Ulimit, Ulimits
from controller.spec.proxying import HeaderEdit, Headers, Proxy, RateLimit, Redirect, find_proxy_faults
from controller.spec.strategies import (
    AbortOn,
    AnyStrategy,
    BlueGreen,
    Canary,
    CanaryStep,
    Recreate,
    Rolling,
    Strategy,
)
from controller.spec.values import Duration, Flag, PositiveDuration, Size, Whole, Words, count_of
from controller.spec.volumes import Volume, Volumes

__all__ = [
    "CONTAINER_FIELDS",
    "NAME_PATTERN",
    "AbortOn",
    "AnyStrategy",
    "AppSpec",
    "Before",
    "BlueGreen",
    "Canary",
    "CanaryStep",
    "HeaderEdit",
    "Headers",
    "Health",
    "Proxy",
    "RateLimit",
    "Recreate",
    "Redirect",
    "Resources",
    "Rolling",
    "Route",
    "SecretRef",
    "Ulimit",
    "Volume",
    "count_of",
    "find_faults",
    "load_stored",
]

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,39}$"
LONGEST_WORD = 128 * 1024 - 1
"""Bytes of one argument or one NAME=value: with more no process can be started (MAX_ARG_STRLEN)."""
STORED = {"stored": True}
"""Validation context of what was accepted once: rules between fields are not asked again."""


def _read_name(value: Any) -> str:
    # A letter or digit at the end: the name is a label of host names on the network.
    if isinstance(value, str) and 0 < len(value) <= 40 and value[0] in _LETTERS and set(value) <= _NAME_MARKS:
        return value
    raise allowed("a-z, 0-9 and -, starting with a letter, at most 40 characters")


_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
_NAME_MARKS = _LETTERS | frozenset("0123456789-")
Name = Annotated[str, BeforeValidator(_read_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})]


class Before(Part):
    """A one-off container that runs before the first new replica; non-zero fails the release."""

    command: Annotated[Words, Field(min_length=1)]
    """What it runs, with the app's environment, secrets, volumes and network."""
    timeout: PositiveDuration = 300.0
    """How long it may take."""


class AppSpec(Part):
    """One app, as a person asks for it."""

    name: Name
    """The app; a-z, 0-9 and -, starting with a letter, at most 40 characters."""
    image: Image
    """What its containers are made from."""
    port: Annotated[Whole, Field(ge=1, le=65535)] | None = None
    """The port that speaks HTTP in the container; without it the app is a worker and has no routes."""
    replicas: Whole = Field(default=1, ge=0, le=1000)
    """How many containers serve; with 0 its routes answer 503."""
    command: Words | None = None
    """Instead of the image's CMD; a string is split into words, no shell runs."""
    entrypoint: Words | None = None
    """Instead of the image's ENTRYPOINT."""
    user: User | None = None
    """Who runs the process: name or uid, with :group if need be."""
    working_dir: Directory | None = None
    """Where the process starts."""
    labels: Labels = Field(default_factory=dict)
    """Labels of the container; names that start with oton. are refused."""
    init: Flag | None = None
    """Run an init as process 1, which reaps zombies and passes signals on."""
    read_only: Flag = False
    """Mount the container's root file system read-only."""
    tmpfs: Tmpfs = ()
    """Paths that live in memory, such as /run:size=64M."""
    cap_add: Capabilities = ()
    """Capabilities beyond the engine's own."""
    cap_drop: Capabilities = ()
    """Capabilities taken away."""
    extra_hosts: ExtraHosts = ()
    """Further names in /etc/hosts, as HOST:ADDRESS."""
    hostname: Hostname | None = None
    """The container's own host name."""
    networks: Networks = ()
    """Existing networks that it joins besides its own; apps on the same one reach each other by name."""
    shm_size: Size | None = None
    """Size of /dev/shm."""
    ulimits: Ulimits = Field(default_factory=dict)
    """Kernel limits, such as nofile: 65536, or {soft: 1024, hard: 65536}."""
    environment: Environment = Field(default_factory=dict)
    """Environment variables; not secret. One without a value is unset, even if the image sets it."""
    secrets: Secrets = ()
    """Secrets that it gets, by name; values come from `oton secret set`."""
    volumes: Volumes = ()
    """Named volumes and host paths."""
    resources: Resources = Resources()
    """Limits of each replica."""
    stop_signal: Signal | None = None
    """What asks it to stop; else the image's own, else SIGTERM."""
    pull: Literal["missing", "always", "never"] = "missing"
    """When the image is fetched: if the engine lacks it, always, or never."""
    routes: tuple[Route, ...] = ()
    """Hosts and paths that lead here."""
    health: Health = Health()
    """How readiness is asked."""
    strategy: Strategy = Rolling()
    """How it moves to another release."""
    deadline: PositiveDuration = 120.0
    """From a replica's start to its first ready verdict; beyond it the release fails."""
    drain: Duration = 30.0
    """The longest that open requests may take after their replica stopped taking new ones."""
    stop_grace: Duration = 10.0
    """From the stop signal to SIGKILL."""
    bake: Duration = 0.0
    """If the release fails within this time after the switch, the previous one is restored."""
    before: Before | None = None
    """A one-off with the new image before the first new replica, such as a migration."""
    suspend: Flag = False
    """Leave the app alone: no rollout, healing or removal."""
    proxy: Proxy = Proxy()
    """How the proxy treats its requests."""

    @model_validator(mode="after")
    def _agrees(self, info: ValidationInfo) -> Self:
        if not (isinstance(info.context, Mapping) and info.context.get("stored")):
            faults = tuple(find_faults(self))
            if faults:
                raise faulty(faults)
        return self

    @property
    def has_routes(self) -> bool:
        """Say whether anything on the public side leads here, a preview included."""
        return bool(self.routes) or self.preview_host is not None

    @property
    def preview_host(self) -> str | None:
        """Return the host that leads to a new release before its switch."""
        return self.strategy.preview_host if isinstance(self.strategy, BlueGreen) else None

    @property
    def probe_host(self) -> str:
        """Return the Host header of a probe: health.host, else the first exact route host, else localhost."""
        exact = (route.host for route in self.routes if route.host is not None and route.is_exact)
        return self.health.host or next(exact, "localhost")

    @property
    def runs_two_releases(self) -> bool:
        """Say whether its strategy lets replicas of two releases run at once."""
        return not isinstance(self.strategy, Recreate)


def find_faults(spec: AppSpec, broken: frozenset[str] = frozenset()) -> Iterator[Fault]:
    """Yield what is wrong between fields; rules that touch a field in *broken* are not asked."""
    if spec.port is None and "port" not in broken:
        yield from _need_port(spec, broken)
    if "routes" not in broken:
        yield from _find_repeated(spec)
    own_hosts = {route.host for route in spec.routes} - {None}
    if not {"strategy", "routes"} & broken and spec.preview_host in own_hosts:
        yield Fault(at=("strategy", "preview_host"), allowed="a host that none of its own routes has")
    yield from _find_doubles(spec, broken)
    yield from _find_overlong(spec, broken)
    if "proxy" not in broken:
        yield from (replace(fault, at=("proxy", *fault.at)) for fault in find_proxy_faults(spec.proxy))


def _need_port(spec: AppSpec, broken: frozenset[str]) -> Iterator[Fault]:
    places = {
        ("routes",): bool(spec.routes),
        ("health", "path"): spec.health.path is not None,
        ("strategy", "preview_host"): spec.preview_host is not None,
    }
    for place, is_set in places.items():
        if is_set and place[0] not in broken:
            yield Fault(at=place, allowed="only together with `port`, the port that speaks HTTP in the container")


def _find_repeated(spec: AppSpec) -> Iterator[Fault]:
    seen: set[tuple[str | None, str]] = set()
    for index, route in enumerate(spec.routes):
        claim = (route.host, route.path)
        if claim in seen:
            yield Fault(at=("routes", index), message=f"{route.host or 'any host'}{route.path} is routed twice")
        seen.add(claim)


def _find_doubles(spec: AppSpec, broken: frozenset[str]) -> Iterator[Fault]:
    places: dict[str, list[str]] = {
        "volumes": [volume.target.rstrip("/") for volume in spec.volumes],
        "secrets": [secret.name for secret in spec.secrets],
    }
    for field, names in places.items():
        seen: set[str] = set()
        for index, name in enumerate(names):
            if field not in broken and name in seen:
                yield Fault(at=(field, index), message=f"{name} is there twice")
            seen.add(name)
    if not {"secrets", "environment"} & broken:
        for index, secret in enumerate(spec.secrets):
            if not secret.file and secret.name in spec.environment:
                yield Fault(at=("secrets", index), allowed="a name that `environment` does not set too")


def _find_overlong(spec: AppSpec, broken: frozenset[str]) -> Iterator[Fault]:
    before = spec.before.command if spec.before is not None else ()
    words = {
        ("command",): spec.command or (),
        ("entrypoint",): spec.entrypoint or (),
        ("before", "command"): before,
        ("health", "command"): spec.health.command or (),
    }
    texts: list[tuple[tuple[str, ...], str]] = [
        (("environment", name), f"{name}={value or ''}") for name, value in spec.environment.items()
    ]
    texts += [(place, word) for place, many in words.items() for word in many]
    for place, text in texts:
        size = len(text.encode("utf-8", "surrogatepass"))
        if place[0] not in broken and size > LONGEST_WORD:
            said = f"found {size} bytes, allowed: at most {LONGEST_WORD} (128K)"
            yield Fault(at=place, message=f"{said}; Linux starts no process with more in one piece")


def load_stored(data: str | bytes) -> AppSpec:
    """Return the spec that `model_dump_json` of this or a neighbouring version wrote.

    Fields that this version does not know are ignored, and rules between fields are not asked again.
    Raises pydantic's ValidationError where it is no spec at all.
    """
    return AppSpec.model_validate_json(data, extra="ignore", context=STORED)
