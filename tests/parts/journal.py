"""
What really happened meanwhile: the engine's own events of one instance, and the table the proxy was given.

    with Journal(service) as journal:
        ...
    assert not journal.writes()                  # nothing was created, started, stopped or removed
    journal.check_never_stopped_while_routed()   # law 1
    journal.check_always_routed("shop")          # law 2
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.parts.daemon import connect
from tests.parts.service import Service
from tests.parts.wait import wait_for

LOOK_S = 0.005
READING = ("exec_create", "exec_start", "exec_die", "health_status", "top", "resize", "attach")
"""What reading and probing leave in the events, and what the container does by itself."""


@dataclass(frozen=True, slots=True)
class Happened:
    """One event of the engine."""

    at: float
    """Wall seconds."""
    kind: str
    """container, network, volume, image."""
    action: str
    id: str
    name: str
    app: str
    release: int


@dataclass(frozen=True, slots=True)
class Look:
    """One table as it was on disk."""

    at: float
    """Wall seconds at which it was written."""
    version: int
    apps: Mapping[str, Any]

    def ready(self, app: str) -> frozenset[str]:
        """Return the ids that take new requests of the app's live group."""
        entry = self.apps.get(app) or {}
        return frozenset(u["id"] for u in upstreams(entry) if u.get("state", "ready") == "ready")


def upstreams(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return an entry's upstreams of the live group."""
    return [u for u in entry.get("upstreams", ()) if u.get("group", "live") == "live"]


class Journal:
    """Listens to the engine and takes every table that is published, while the block runs."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._place = service.state / "proxy" / "table.json"
        self.events: list[Happened] = []
        self.looks: list[Look] = []
        self._client = connect(600)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"journal-{work.__name__}", daemon=True)
            for work in (self._listen, self._watch)
        ]

    def __enter__(self) -> Journal:
        self._stream = self._client.events(decode=True, since=time.time())
        self.look()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.look()
        self._stop.set()
        with suppress(OSError, ValueError):
            self._stream.close()
        for thread in self._threads:
            thread.join(10)
        self._client.close()

    def look(self) -> None:
        """Take the table if it is another one than at the last look."""
        try:
            with self._place.open("rb") as file:
                written = os.fstat(file.fileno()).st_mtime
                if self.looks and self.looks[-1].at == written:
                    return
                raw = json.loads(file.read())
        except FileNotFoundError:
            return
        self.looks.append(Look(written, raw["version"], raw["apps"]))

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()

    def _listen(self) -> None:
        # Closing the stream from another thread ends the iteration in any of these ways.
        with suppress(Exception):
            for raw in self._stream:
                self._take(raw)

    def _take(self, raw: Mapping[str, Any]) -> None:
        kind, actor = raw["Type"], raw["Actor"]
        labels = actor.get("Attributes", {})
        if kind == "container" and labels.get("oton.instance") != self._service.instance:
            return
        if kind == "image" or (
            kind == "network" and self._service.environment["OTON_NETWORK"] not in labels.get("name", "")
        ):
            return
        if kind == "network" and raw["Action"] == "destroy":
            return  # that of an earlier test's app: it goes a minute after its app, whatever is under way
        self.events.append(
            Happened(
                at=raw["timeNano"] / 1e9,
                kind=kind,
                action=raw["Action"].partition(":")[0],
                id=actor["ID"],
                name=labels.get("name", ""),
                app=labels.get("oton.app", ""),
                release=int(labels.get("oton.release") or 0),
            )
        )

    # asking

    def actions(self, app: str, *actions: str) -> list[Happened]:
        """Return what happened to the app's containers, the named actions only."""
        return [e for e in self.events if e.kind == "container" and e.app == app and e.action in actions]

    def writes(self) -> list[Happened]:
        """Return what changed anything on the engine that is ours."""
        return [e for e in self.events if e.action not in READING]

    def wait_action(self, app: str, action: str, count: int = 1, limit_s: float = 20) -> list[Happened]:
        """Wait until the action happened *count* times."""
        wait_for(lambda: len(self.actions(app, action)) >= count, limit_s, f"{action} of {app}, {count} times")
        return self.actions(app, action)

    def versions(self) -> set[int]:
        """Return the versions that the table had."""
        return {look.version for look in self.looks}

    def most_running(self, app: str, running: int) -> int:
        """
        Return how many containers ran at once at the most, given how many did at the start.

        One that got its stop signal is on its way out and does not count any more.
        """
        most, over = running, set()
        for event in sorted(self.actions(app, "start", "kill", "die"), key=lambda e: e.at):
            if event.action == "start":
                running += 1
                over.discard(event.id)
            elif event.id not in over:
                running -= 1
                over.add(event.id)
            most = max(most, running)
        return most

    def overlaps(self, app: str) -> int:
        """Return how many containers were started while another one of the app, which had one at first, still ran."""
        running, twice = 1, 0
        for event in sorted(self.actions(app, "start", "die"), key=lambda e: e.at):
            running += 1 if event.action == "start" else -1
            twice += running > 1
        return twice

    def check_never_stopped_while_routed(self, *outside: str) -> None:
        """
        Raise AssertionError if a container was signalled while the table still named it as ready.

        *outside* are ids that the test itself stopped.
        """
        for event in self.events:
            if event.kind != "container" or event.action not in ("kill", "die") or event.id in outside:
                continue
            before = [look for look in self.looks if look.at < event.at]
            after = [look for look in self.looks if look.at >= event.at]
            # A table that came and went between two looks may have taken it out: that proves nothing.
            was_missed = bool(before and after) and after[0].version > before[-1].version + 1
            if before and event.id in before[-1].ready(event.app) and not was_missed:
                raise AssertionError(f"{event.name} got {event.action} at {event.at:.3f} while it was routed")

    def check_always_routed(self, app: str, at_least: int = 1) -> None:
        """Raise AssertionError if a look found the app with fewer ready upstreams."""
        for look in self.looks:
            assert len(look.ready(app)) >= at_least, (
                f"{app} at {look.at:.3f}, table {look.version}: {look.apps.get(app)}"
            )
