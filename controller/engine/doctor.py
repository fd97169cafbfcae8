"""What a person should know about the engine, one line each, with how to mend it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controller.engine import labels
from controller.engine.calls import Calls
from controller.engine.networks import Networks
from controller.engine.reading import read_time
from controller.errors import ControllerError

SKEW_S = 2.0


@dataclass(frozen=True, slots=True)
class Row:
    """One finding."""

    what: str
    state: Literal["ok", "warning", "error"]
    text: str
    mend: str = ""
    """What to do; empty where nothing is wrong."""


def examine(calls: Calls, networks: Networks) -> tuple[Row, ...]:
    """Return the findings, worst news included; never raises."""
    try:
        with calls.doing("examine it") as client:
            asked = time.time()
            info, version = client.info(), client.version()
            taken_s = time.time() - asked
    except ControllerError as error:
        return (Row("engine", "error", str(error), f"start it, or set DOCKER_HOST; now it is {calls.place}"),)
    named = f"Docker {version.get('Version', '?')}, API {version.get('ApiVersion', '?')}"
    rows = [
        Row("engine", "ok", f"{named}, at {calls.place}"),
        _clock(info, asked, taken_s),
        _storage(info),
        *_limits(info),
    ]
    try:
        rows += [_reach(info, calls, networks), *_shared(calls, networks)]
    except ControllerError as error:
        rows.append(Row("network", "error", str(error)))
    return tuple(rows)


def _clock(info: Mapping[str, Any], asked: float, taken_s: float) -> Row:
    skew = read_time(str(info.get("SystemTime", ""))) - asked
    off = max(0.0, abs(skew) - taken_s)
    if off > SKEW_S:
        return Row("engine clock", "warning", f"{skew:+.1f} s compared with ours", "keep both clocks in sync with NTP")
    return Row("engine clock", "ok", "in sync with ours")


def _storage(info: Mapping[str, Any]) -> Row:
    driver = str(info.get("Driver", "?"))
    if driver in ("vfs", "devicemapper"):
        return Row(
            "engine storage", "warning", driver, "use overlay2: with this driver each container needs a full copy"
        )
    return Row("engine storage", "ok", driver)


def _limits(info: Mapping[str, Any]) -> Iterator[Row]:
    for key, name in (("MemoryLimit", "memory"), ("CpuCfsQuota", "cpus"), ("PidsLimit", "pids")):
        if not info.get(key):
            yield Row(f"limit {name}", "warning", f"resources.{name} has no effect", "enable that cgroup controller")


def _reach(info: Mapping[str, Any], calls: Calls, networks: Networks) -> Row:
    if calls.is_elsewhere:
        far = f"the engine at {calls.place} is on another machine: the proxy cannot reach its replicas"
        return Row("replicas", "error", far, "run oton on the machine of the engine")
    rootless = any("rootless" in option for option in info.get("SecurityOptions") or ())
    kind = "rootless engine: " if rootless else ""
    match networks.mode():
        case "address":
            return Row("replicas", "ok", f"{kind}reached at their own addresses, each app on a network of its own")
        case "port":
            return Row("replicas", "ok", f"{kind}reached by ports published on 127.0.0.1, which is slower")
        case _:
            return Row("replicas", "ok", f"{kind}each app's network is made with its first replica")


def _shared(calls: Calls, networks: Networks) -> Iterator[Row]:
    """Tell of apps that are still on the network which former versions made for all of them."""
    for network in networks.shared():
        with calls.doing("see who is on it") as client:
            there = client.containers(filters={"network": network.id, "label": labels.APP})
        apps = sorted({str(each["Labels"][labels.APP]) for each in there})
        if apps:
            yield Row(
                "networks",
                "warning",
                f"{', '.join(apps)} can still reach each other on {network.name}, which a former version made",
                f"move each to its own network, without a lost request: oton restart {apps[0]}",
            )
