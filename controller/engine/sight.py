"""
What exists now: one list of containers, and an inspection of those that may have changed.

An inspection is kept until an event, an operation of ours or its age calls it in question, or until the
list contradicts it. A container that vanishes between list and inspection is simply not there.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.clock import steady_seconds
from controller.engine import labels
from controller.engine.calls import READ_S, Calls
from controller.engine.reading import limits_of, read_replica, read_summary, split_by_app, used_address
from controller.errors import Retry, Stale
from controller.world.model import Replica

KEEP_S = 20.0
"""An inspection older than this is made again: below the resync, so that a lost event is mended by one."""
HANG_S = 2.0
"""So long one inspection may take while all are looked at."""
STUCK_S = 30.0
"""For this long a container whose inspection hung is taken from the list alone when all are looked at."""


SHARE_S = 0.5
"""While many apps are looked at in a row (a resync), one list serves all of them for this long."""
CROWD = 4

Listed = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Shared:
    """One list for all apps."""

    by_app: Mapping[str, list[Listed]]
    at: float
    doubts: int


@dataclass(frozen=True, slots=True)
class _Kept:
    replica: Replica
    address: str
    shown: tuple[object, ...]
    """What the list said of it when it was inspected."""
    until: float


class Sight:
    """Sees our instance's containers; safe for several threads."""

    def __init__(self, calls: Calls, instance: str) -> None:
        self._calls = calls
        self._instance = instance
        self._kept: dict[str, _Kept] = {}
        self._doubts: dict[str, int] = {}
        self._doubted_all = 0
        self._stuck: dict[str, float] = {}
        self._ours: set[str] = set()
        self._shown: set[str] = set()
        """Those that somebody was told are past `created`."""
        self._limits: frozenset[str] | None = None
        self._lock = threading.Lock()
        self._askers: dict[str, float] = {}
        self._shared: _Shared | None = None
        self._doubt_count, self._doubted_at = 0, 0.0
        self.is_followed = False
        """The event stream is open: a change that a shared list does not show will ring in a moment."""
        self.on_address: Callable[[str, str, str], None] = lambda app, container, address: None
        """Told of every address that a container of an app of ours holds or will take when started again."""
        self.on_present: Callable[[frozenset[str], float], None] = lambda containers, as_of: None
        """Told of all containers of ours and the steady time of that list, whenever all are looked at."""

    def observe(self, app: str) -> tuple[Replica, ...]:
        """Return the app's containers, sorted; raises Retry if one cannot be inspected in time."""
        with self._calls.doing(f"look at the containers of {app}"):
            replicas = [self._look(each) for each in self._listed_for(app)]
        return self._show(replicas).get(app, ())

    def observe_all(self) -> Mapping[str, tuple[Replica, ...]]:
        """Return all apps' containers; one whose inspection hangs is shown as the list has it."""
        as_of = steady_seconds()
        with self._calls.doing("look at all containers"):
            listed = self.listed()
            replicas = [self._look_or_list(each) for each in listed]
        self._forget_all_but(frozenset(each["Id"] for each in listed), as_of)
        return self._show(replicas)

    def listed(self, app: str = "") -> list[Listed]:
        """Return the engine's list of our containers (of one app)."""
        with self._calls.doing("list containers", READ_S) as client:
            found: list[Listed] = client.containers(
                all=True, filters={"label": labels.label_filter(self._instance, app)}
            )
        with self._lock:
            self._ours.update(each["Id"] for each in found)
        return found

    def inspect(self, container: str) -> dict[str, Any]:
        """Inspect one container now; Stale if it is gone or is not ours."""
        with self._calls.doing(f"inspect container {container[:12]}", READ_S) as client:
            seen: dict[str, Any] = client.inspect_container(container)
        if not labels.is_ours(seen["Config"].get("Labels"), self._instance):
            raise Stale(f"container {container[:12]} is not ours; it is left alone")
        with self._lock:
            self._ours.add(seen["Id"])
        return seen

    def must_be_ours(self, container: str) -> None:
        """Raise Stale unless the container bears our instance's label; every operation asks this first."""
        with self._lock:
            known = container in self._ours
        if not known:
            self.inspect(container)

    def doubt(self, container: str = "") -> None:
        """What is known of the container ("" = all) may be wrong from now on."""
        with self._lock:
            self._doubt_count, self._doubted_at = self._doubt_count + 1, steady_seconds()
            if container:
                self._doubts[container] = self._doubts.get(container, 0) + 1
                self._kept.pop(container, None)
            else:
                self._doubted_all += 1
                self._kept.clear()
                self._stuck.clear()
                self._limits = None

    def was_shown(self, container: str) -> bool:
        """Say whether `observe` has told of this container as one that was started."""
        with self._lock:
            return container in self._shown

    def _show(self, found: Iterable[Replica | None]) -> dict[str, tuple[Replica, ...]]:
        replicas = [each for each in found if each is not None]
        with self._lock:
            self._shown.update(each.id for each in replicas if each.state != "created")
        return split_by_app(replicas)

    def _listed_for(self, app: str) -> list[Listed]:
        now = steady_seconds()
        with self._lock:
            self._askers = {each: at for each, at in self._askers.items() if now - at < SHARE_S} | {app: now}
            count, shared = self._doubt_count, self._shared
            is_quiet = self.is_followed and now - self._doubted_at > SHARE_S
        if not is_quiet or len(self._askers) < CROWD:
            return self.listed(app)
        if shared is None or shared.doubts != count or now - shared.at > SHARE_S:
            shared = self._shared = _Shared(_group(self.listed()), now, count)
        return shared.by_app.get(app, [])

    def _look(self, listed: Mapping[str, Any], limit_s: float | None = None) -> Replica | None:
        key, shown = listed["Id"], _shown(listed)
        with self._lock:
            kept = self._kept.get(key)
            mark = (self._doubts.get(key, 0), self._doubted_all)
        if kept is not None and kept.shown == shown and steady_seconds() < kept.until:
            # Told again: whoever keeps addresses may have heard of its network only since.
            self.on_address(kept.replica.app, key, kept.address)
            return kept.replica
        try:
            with self._calls.doing(f"inspect container {key[:12]}", limit_s or READ_S) as client:
                seen = client.inspect_container(key)
            replica = read_replica(seen, can_limit=self._what_it_limits())
        except Stale:
            return None
        address = used_address(seen)
        self.on_address(replica.app, key, address)
        with self._lock:
            # An event that came while we looked may tell of something newer than what we saw.
            if mark == (self._doubts.get(key, 0), self._doubted_all):
                until = steady_seconds() + KEEP_S * random.uniform(0.8, 1.0)  # noqa: S311
                self._kept[key] = _Kept(replica, address, shown, until)
        return replica

    def _look_or_list(self, listed: Mapping[str, Any]) -> Replica | None:
        key = listed["Id"]
        if self._stuck.get(key, 0.0) > steady_seconds():
            return read_summary(listed)
        try:
            return self._look(listed, limit_s=HANG_S)
        except Retry:
            if not self._calls.ping():
                raise
            # One container's lock can be held for minutes; the other apps must not wait for it.
            with self._lock:
                self._stuck[key] = steady_seconds() + STUCK_S
            return read_summary(listed)

    def _what_it_limits(self) -> frozenset[str]:
        if self._limits is None:
            with self._calls.doing("ask what it can limit", READ_S) as client:
                self._limits = limits_of(client.info())
        return self._limits

    def _forget_all_but(self, present: frozenset[str], as_of: float) -> None:
        with self._lock:
            for each in (self._kept, self._doubts, self._stuck):
                for gone in each.keys() - present:
                    del each[gone]
            self._ours &= present
            self._shown &= present
        self.on_present(present, as_of)


def _group(listed: Iterable[Listed]) -> dict[str, list[Listed]]:
    apps: dict[str, list[Listed]] = {}
    for each in listed:
        apps.setdefault(each["Labels"].get(labels.APP, ""), []).append(each)
    return apps


def _shown(listed: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what a list's entry tells of a container's state, without the ages that change every second."""
    networks = (listed.get("NetworkSettings") or {}).get("Networks") or {}
    status = listed.get("Status", "")
    health = status[status.rfind("(") :] if listed["State"] == "running" and "(" in status else ""
    ports = sorted((each.get("PrivatePort", 0), each.get("PublicPort", 0)) for each in listed.get("Ports") or ())
    return (
        listed["State"],
        health,
        tuple(listed.get("Names") or ()),
        tuple(sorted((name, (each or {}).get("IPAddress", "")) for name, each in networks.items())),
        tuple(ports),
    )
