"""
What a spec may not ask for when it comes by a token that is not admin: whatever would reach beyond its own app.

Pure but for following links of host paths, which is where a bind would end up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from controller.api.auth import Caller
from controller.api.problems import Problem
from controller.engine.binds import Binds, guarded_by
from controller.errors import Refused
from controller.plan.claims import Claim, Claims, claim_of
from controller.routing.table import Rule
from controller.spec.model import AppSpec, Volume

DEFAULT_ENGINE = "unix:///var/run/docker.sock"


class Allowed(Protocol):
    """What the server's settings let such specs have."""

    @property
    def allow_binds(self) -> tuple[str, ...]: ...
    @property
    def allow_caps(self) -> tuple[str, ...]: ...
    @property
    def allow_networks(self) -> tuple[str, ...]: ...
    @property
    def docker_host(self) -> str | None: ...
    @property
    def state(self) -> Path: ...
    @property
    def db_path(self) -> Path: ...
    @property
    def socket(self) -> Path: ...
    @property
    def desired(self) -> Path: ...
    @property
    def api_host(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """One field that may not be, and why."""

    field: str
    reason: str

    @property
    def text(self) -> str:
        """The refusal in one line."""
        return f"{self.field}: {self.reason}"


def check_spec(who: Caller, spec: AppSpec, had: Claims, settings: Allowed) -> None:
    """Raise the 403 with every field that *who* may not ask for; *had* are the hosts and paths that the app has."""
    if not who.is_limited:
        return
    found = list(find_refusals(spec, had, who.hosts, settings))
    if found:
        lines = [one.text for one in found]
        fields = [one.field for one in found]
        raise Problem(403, "not-allowed", f"this token may not ask for: {lines[0]}", problems=lines, fields=fields)


def find_refusals(spec: AppSpec, had: Claims, patterns: tuple[str, ...], settings: Allowed) -> Iterator[Refusal]:
    """Yield everything that a token which is not admin may not ask for."""
    for index, volume in enumerate(spec.volumes):
        yield from refuse_volume(f"volumes[{index}]", volume, settings)
    for index, name in enumerate(spec.cap_add):
        if plain_cap(name) not in {plain_cap(one) for one in settings.allow_caps}:
            yield Refusal(f"cap_add[{index}]", f"{name} is not among the server's OTON_ALLOW_CAPS")
    for index, name in enumerate(spec.networks):
        if name not in settings.allow_networks:
            yield Refusal(f"networks[{index}]", f"{name} is not among the server's OTON_ALLOW_NETWORKS")
    if spec.proxy.addons:
        yield Refusal("proxy.addons", "addons run inside the service and need an admin token")
    for field, rule in claimed_rules(spec):
        if rule.host is not None and rule.host == settings.api_host:
            yield Refusal(field, f"{rule.host} is the service's own API, with every path")
        elif not is_within(claim_of(rule), had):
            yield from refuse_rule(field, rule, patterns)


def claimed_rules(spec: AppSpec) -> Iterator[tuple[str, Rule]]:
    """Yield every host and path that a spec claims on the public side, with its field."""
    for index, route in enumerate(spec.routes):
        yield f"routes[{index}].host", Rule(host=route.host, path=route.path)
    if spec.preview_host is not None:
        yield "strategy.preview_host", Rule(host=spec.preview_host)


def is_within(claim: Claim, had: Claims) -> bool:
    """Say whether a claim is one of those that the app has, or lies below one."""
    mine = (one.path for one in had if one.host == claim.host)
    return any(claim.path == path or claim.path.startswith(f"{path}/") for path in mine)


def refuse_rule(field: str, rule: Rule, patterns: tuple[str, ...]) -> Iterator[Refusal]:
    """Yield why what the app does not have yet may not be claimed."""
    host = rule.host
    if host is None:
        yield Refusal(field, "a route for any host needs an admin token")
    elif host.startswith("*."):
        yield Refusal(field, f"{host} is a wildcard and needs an admin token")
    elif not any(covers(pattern, host) for pattern in patterns):
        place = f"{host}{rule.path}" if rule.path != "/" else host
        yield Refusal(field, f"{place} is neither within this app's routes nor on one of the token's --host")


def covers(pattern: str, host: str) -> bool:
    """Say whether a token's host pattern (exact, or `*.` for one label) covers *host*."""
    pattern = pattern.lower()
    if pattern.startswith("*."):
        return "." in host and host.partition(".")[2] == pattern[2:]
    return host == pattern


def plain_cap(name: str) -> str:
    """Return a capability's name as the kernel's list has it, without CAP_."""
    return name.upper().removeprefix("CAP_")


def refuse_volume(field: str, volume: Volume, settings: Allowed) -> Iterator[Refusal]:
    """Yield why a volume may not be mounted."""
    if volume.external:
        yield Refusal(field, f"{volume.source} is external: it belongs to somebody else")
    if volume.type != "bind":
        return
    place = Path(os.path.realpath(volume.source))
    if not any(place.is_relative_to(os.path.realpath(allowed)) for allowed in settings.allow_binds):
        yield Refusal(field, f"{volume.source} is not below any of the server's OTON_ALLOW_BINDS")
        return
    # The engine's door judges again at every create and start; here it is told before anything is stored.
    binds = Binds(lambda: settings.docker_host or DEFAULT_ENGINE)
    binds.guarded = guarded_by(settings)
    try:
        binds.refuse(volume.source)
    except Refused as error:
        yield Refusal(field, str(error).removeprefix("volumes: "))
