"""
From Docker's words to ours: an inspection or a list's entry becomes a `Replica`.

Pure: values in, values out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from controller.engine import labels
from controller.world.model import EngineHealth, Replica, ReplicaKind, ReplicaState

LINE_CHARS = 500
"""Longest line of a container's output that is kept."""

_NANO = 1_000_000_000
_STATES: dict[str, ReplicaState] = {
    "created": "created",
    "running": "running",
    "paused": "paused",
    "restarting": "exited",
    "exited": "exited",
    "dead": "exited",
    "removing": "removing",
}
_FRACTION = re.compile(r"(\.\d{6})\d+")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def read_replica(seen: Mapping[str, Any], *, can_limit: frozenset[str]) -> Replica:
    """Turn an inspection into a `Replica`; *can_limit* names the limits that this engine can enforce."""
    state, config, host = seen["State"], seen["Config"], seen["HostConfig"]
    ours = config.get("Labels") or {}
    status = _STATES.get(state["Status"], "exited")
    address, port = _reach(seen, ours) if status in ("running", "paused") else (None, None)
    health, log = _health(state)
    return Replica(
        id=seen["Id"],
        name=seen["Name"].lstrip("/"),
        app=ours[labels.APP],
        release=_whole(ours.get(labels.RELEASE)),
        index=_whole(ours.get(labels.REPLICA)),
        digest=ours.get(labels.SPEC, ""),
        image_id=seen.get("Image", ""),
        kind=_kind(ours),
        state=status,
        address=address,
        port=port,
        created=read_time(seen.get("Created", "")),
        started=read_time(state.get("StartedAt", "")),
        finished=read_time(state.get("FinishedAt", "")),
        exit_code=state.get("ExitCode") if status == "exited" else None,
        oom_killed=bool(state.get("OOMKilled")),
        error=" ".join(state.get("Error", "").split())[:LINE_CHARS],
        health=health,
        health_log=log,
        drift=_drift(seen, host, ours, can_limit),
    )


def read_summary(seen: Mapping[str, Any]) -> Replica:
    """Turn an entry of the container list into a `Replica`: right, but without its finer parts."""
    ours = seen["Labels"]
    status = _STATES.get(seen["State"], "exited")
    code = re.match(r"Exited \((\d+)\)", seen.get("Status", ""))
    port = _whole(ours.get(labels.PORT)) or None
    address = _at_home(seen, ours).get("IPAddress") or None
    published = [each for each in seen.get("Ports", ()) if each.get("PrivatePort") == port and each.get("PublicPort")]
    if published:
        address, port = "127.0.0.1", published[0]["PublicPort"]
    up = status in ("running", "paused") and address is not None
    return Replica(
        id=seen["Id"],
        name=seen["Names"][0].lstrip("/") if seen.get("Names") else seen["Id"][:12],
        app=ours[labels.APP],
        release=_whole(ours.get(labels.RELEASE)),
        index=_whole(ours.get(labels.REPLICA)),
        digest=ours.get(labels.SPEC, ""),
        image_id=seen.get("ImageID", ""),
        kind=_kind(ours),
        state=status,
        address=address if up else None,
        port=port if up else None,
        created=float(seen.get("Created", 0)),
        exit_code=int(code[1]) if code and status == "exited" else None,
    )


def _whole(text: str | None) -> int:
    """Read a number from a label; a hand may have written nonsense there."""
    return int(text) if text and text.isdecimal() else 0


def _kind(ours: Mapping[str, str]) -> ReplicaKind:
    match ours.get(labels.KIND):
        case "before":
            return "before"
        case "run":
            return "run"
        case _:
            return "replica"


def _reach(seen: Mapping[str, Any], ours: Mapping[str, str]) -> tuple[str | None, int | None]:
    port = _whole(ours.get(labels.PORT)) or None
    settings = seen.get("NetworkSettings") or {}
    published = (settings.get("Ports") or {}).get(f"{port}/tcp") or []
    if published and published[0].get("HostPort"):
        return "127.0.0.1", int(published[0]["HostPort"])
    address = _at_home(seen, ours).get("IPAddress") or None
    return (address, port) if address else (None, None)


def _health(state: Mapping[str, Any]) -> tuple[EngineHealth, str]:
    health = state.get("Health") or {}
    word: EngineHealth = next((w for w in ("starting", "healthy", "unhealthy") if w == health.get("Status")), "none")
    log = health.get("Log") or []
    lines = clean_lines(log[-1].get("Output") or "") if log else ()
    return word, lines[-1] if lines else ""


def _drift(seen: Mapping[str, Any], host: Mapping[str, Any], ours: Mapping[str, str], can_limit: frozenset[str]) -> str:
    policy = (host.get("RestartPolicy") or {}).get("Name") or "no"
    if policy != "no":
        return f"restart policy {policy}, made with no: we alone restart containers"
    made = _made(ours)
    if not made:
        return ""
    for key, name, show in _COMPARED:
        now, then = max(0, host.get(key) or 0), made.get(key, 0)
        if key in can_limit and now != then:
            return f"{name} {show(now)}, made with {show(then)}"
    joined = (seen.get("NetworkSettings") or {}).get("Networks") or {}
    missing = [each for each in made.get("networks", ()) if each not in joined]
    return f"not on network {missing[0]}, made with it" if missing else ""


def _show_size(size_bytes: int) -> str:
    for unit, factor in (("G", 1024**3), ("M", 1024**2), ("K", 1024)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes) if size_bytes else "none"


def _show_cpus(nano: int) -> str:
    return f"{nano / _NANO:g}" if nano else "none"


def _show_count(count: int) -> str:
    return str(count) if count else "none"


_COMPARED = (
    ("Memory", "memory limit", _show_size),
    ("NanoCpus", "CPU limit", _show_cpus),
    ("PidsLimit", "process limit", _show_count),
)


def read_time(text: str) -> float:
    """Return Unix seconds of the engine's timestamp, 0 for its "never"."""
    if not text or text.startswith("0001-"):
        return 0.0
    try:
        return datetime.fromisoformat(_FRACTION.sub(r"\1", text)).timestamp()
    except ValueError:
        return 0.0


def clean_lines(text: str) -> tuple[str, ...]:
    """Split output into lines that are safe to print: no escapes, no control characters, none too long."""
    return tuple(line for line in (clean_line(each) for each in text.split("\n")) if line)


def clean_line(line: str) -> str:
    """Make one line safe to print on a person's terminal."""
    return _CONTROLS.sub("", _ESCAPES.sub("", line.rstrip())).rstrip()[:LINE_CHARS]


def used_address(seen: Mapping[str, Any]) -> str:
    """Return the address that this container holds or will take when started again on the network it was made on."""
    mine = _at_home(seen, (seen.get("Config") or {}).get("Labels") or {})
    return str((mine.get("IPAMConfig") or {}).get("IPv4Address") or mine.get("IPAddress") or "")


def networks_of(seen: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the networks that a container of the list is on, started or not."""
    joined = (seen.get("NetworkSettings") or {}).get("Networks") or {}
    return (*sorted(joined), str((seen.get("HostConfig") or {}).get("NetworkMode", "")))


def _at_home(seen: Mapping[str, Any], ours: Mapping[str, str]) -> Mapping[str, Any]:
    """Return how it is on the network that we placed it on; the others are those that its spec asks for."""
    joined: Mapping[str, Any] = (seen.get("NetworkSettings") or {}).get("Networks") or {}
    home = (seen.get("HostConfig") or {}).get("NetworkMode", "")
    if home not in joined:
        asked_for = _made(ours).get("networks", [])[1:]
        home = next((name for name in sorted(joined) if name not in asked_for), "")  # it was moved
    return joined.get(home) or {}


def _made(ours: Mapping[str, str]) -> dict[str, Any]:
    """Return what the container was made with; nothing for one of an earlier version of ours, which did not note it."""
    try:
        noted = json.loads(ours.get(labels.MADE, ""))
    except ValueError:
        return {}
    return noted if isinstance(noted, dict) else {}


def limits_of(info: Mapping[str, Any]) -> frozenset[str]:
    """Return which limits this engine enforces; what it ignores must not look like drift."""
    able = {"Memory": info.get("MemoryLimit"), "NanoCpus": info.get("CpuCfsQuota"), "PidsLimit": info.get("PidsLimit")}
    return frozenset(key for key, yes in able.items() if yes)


def split_by_app(replicas: Sequence[Replica]) -> dict[str, tuple[Replica, ...]]:
    """Return the replicas by app, each app's sorted by (release, index, name)."""
    apps: dict[str, list[Replica]] = {}
    for replica in sorted(replicas, key=lambda one: (one.app, one.release, one.index, one.name)):
        apps.setdefault(replica.app, []).append(replica)
    return {app: tuple(each) for app, each in apps.items()}
