"""
From our words to Docker's: a plan becomes a create request.

Pure: values in, values out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from controller.engine import labels
from controller.ports import ContainerPlan
from controller.spec.model import AppSpec
from controller.spec.volumes import Volume

LOG_CONFIG = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
_NANO = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a new container is put: its app's network, and how the proxy will reach it."""

    network: str
    address: str | None
    """Given by us; None: the container's port is published on 127.0.0.1."""


def container_name(plan: ContainerPlan, attempt: int = 1) -> str:
    """Return APP-rN-I (or APP-rN-before); further *attempts* get a suffix, always the same ones in turn."""
    last = str(plan.index) if plan.kind == "replica" else plan.kind
    name = f"{plan.app}-r{plan.release.number}-{last}"
    return name if attempt == 1 else f"{name}-{attempt}"


def volume_name(app: str, volume: Volume) -> str:
    """Return the engine's name of a named volume: `data` of app `shop` is `shop_data`, an external one as it is."""
    return volume.source if volume.external else f"{app}_{volume.source}"


def render_container(plan: ContainerPlan, instance: str, place: Place) -> dict[str, Any]:
    """Return the body of the create request for *plan*."""
    spec = plan.release.spec
    config: dict[str, Any] = {
        "Image": plan.release.image_id,
        "Env": _environment(plan),
        "Labels": {**spec.labels, **_our_labels(plan, instance, place)},
        "StopTimeout": max(1, round(spec.stop_grace)),
        "HostConfig": _host_config(plan, place),
        "NetworkingConfig": {"EndpointsConfig": {place.network: _endpoint(plan, place)}},
    }
    command = plan.command if plan.command is not None else spec.command
    if command is not None:
        config["Cmd"] = list(command)
    if spec.entrypoint is not None:
        # An empty list would be read as "not set"; one empty word clears the image's entrypoint.
        config["Entrypoint"] = list(spec.entrypoint) or [""]
    if spec.port is not None:
        config["ExposedPorts"] = {f"{spec.port}/tcp": {}}
    optional = {
        "User": spec.user,
        "WorkingDir": spec.working_dir,
        "Hostname": spec.hostname,
        "StopSignal": spec.stop_signal,
        "Healthcheck": _healthcheck(spec) if plan.kind == "replica" else {"Test": ["NONE"]},
    }
    return config | {key: value for key, value in optional.items() if value is not None}


def _our_labels(plan: ContainerPlan, instance: str, place: Place) -> dict[str, str]:
    spec = plan.release.spec
    ours = {
        labels.INSTANCE: instance,
        labels.APP: plan.app,
        labels.RELEASE: str(plan.release.number),
        labels.REPLICA: str(plan.index),
        labels.SPEC: plan.release.container_digest,
        labels.MADE: json.dumps(_limits(spec) | {"networks": [place.network, *spec.networks]}, separators=(",", ":")),
    }
    if plan.kind != "replica":
        ours[labels.KIND] = plan.kind
    if spec.port is not None:
        ours[labels.PORT] = str(spec.port)
    return ours


def _limits(spec: AppSpec) -> dict[str, int]:
    limits = {
        "NanoCpus": round(spec.resources.cpus * _NANO) if spec.resources.cpus else 0,
        "Memory": spec.resources.memory or 0,
        "PidsLimit": spec.resources.pids or 0,
    }
    return {key: value for key, value in limits.items() if value}


def _environment(plan: ContainerPlan) -> list[str]:
    # A key without "=" takes the variable out of the image's environment.
    given = [key if value is None else f"{key}={value}" for key, value in sorted(plan.release.spec.environment.items())]
    return given + [f"{key}={value}" for key, value in sorted((plan.secrets or {}).items())]


def _host_config(plan: ContainerPlan, place: Place) -> dict[str, Any]:
    spec = plan.release.spec
    config: dict[str, Any] = {
        "NetworkMode": place.network,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": LOG_CONFIG,
        "Binds": [_bind(plan.app, each) for each in spec.volumes if each.source],
        **_limits(spec),
    }
    if place.address is None and spec.port is not None and plan.kind == "replica":
        config["PortBindings"] = {f"{spec.port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    optional = {
        "Init": spec.init,
        "ReadonlyRootfs": spec.read_only,
        "Tmpfs": dict(_split_tmpfs(entry) for entry in spec.tmpfs),
        "CapAdd": list(spec.cap_add),
        "CapDrop": list(_dropped(spec)),
        "ExtraHosts": list(spec.extra_hosts),
        "ShmSize": spec.shm_size,
        "Ulimits": [{"Name": name, "Soft": one.soft, "Hard": one.hard} for name, one in sorted(spec.ulimits.items())],
        "Mounts": [*_anonymous_volumes(spec), *_secret_mounts(plan)],
    }
    return config | {key: value for key, value in optional.items() if value}


def _dropped(spec: AppSpec) -> tuple[str, ...]:
    """Return the capabilities taken away: without NET_RAW no container can forge another one's frames."""
    is_said = {"NET_RAW", "ALL"} & {*spec.cap_add, *spec.cap_drop}
    return spec.cap_drop if is_said else (*spec.cap_drop, "NET_RAW")


def _bind(app: str, volume: Volume) -> str:
    source = volume.source if volume.type == "bind" else volume_name(app, volume)
    modes = ",".join(["ro" if volume.read_only else "rw", *volume.options])
    return f"{source}:{volume.target}:{modes}"


def _anonymous_volumes(spec: AppSpec) -> list[dict[str, Any]]:
    return [
        {"Type": "volume", "Target": each.target, "ReadOnly": each.read_only}
        for each in spec.volumes
        if each.type == "volume" and not each.source
    ]


def _secret_mounts(plan: ContainerPlan) -> list[dict[str, Any]]:
    # Not among the binds: where a bind's source is missing, the engine makes a folder in its place.
    return [
        {"Type": "bind", "Source": path, "Target": f"/run/secrets/{name}", "ReadOnly": True}
        for name, path in sorted((plan.files or {}).items())
    ]


def _split_tmpfs(entry: str) -> tuple[str, str]:
    path, _, options = entry.partition(":")
    return path, options


def _healthcheck(spec: AppSpec) -> dict[str, Any] | None:
    command, health = spec.health.command, spec.health
    if not command:
        return None
    return {
        "Test": list(command),
        "Interval": round(health.interval * _NANO),
        "Timeout": round(health.timeout * _NANO),
        "Retries": health.failures,
        "StartPeriod": round(health.start_period * _NANO),
    }


def _endpoint(plan: ContainerPlan, place: Place) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"Aliases": [plan.app] if plan.kind == "replica" else []}
    if place.address is not None:
        endpoint["IPAMConfig"] = {"IPv4Address": place.address}
    return endpoint


def attach_streams(config: dict[str, Any], *, tty: bool) -> dict[str, Any]:
    """Return the create request for a one-off that a person sits in front of."""
    streams = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "OpenStdin": True, "StdinOnce": True}
    return config | streams | {"Tty": tty}
