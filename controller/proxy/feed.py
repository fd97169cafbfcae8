"""
The worker's end of the feed: tables in, confirmations and reports out.

    worker -> controller
      {"hello": {"format", "worker", "pid", "version", "first", "drained": [{"app", "upstream", "version"}], "faults"}}
      {"confirm": version, "faults": {app: why}}   the table of that version is in force here; these apps answer 503
      {"behind": version}           the change does not fit what we have; send the whole
      {"table": {...}}              what we have, when asked
      {"kind": "drained" | "refused" | "limit" | "meters", ...}
    controller -> worker
      {"format", "version", "base", "sticky_key", "apps": {name: routes or null}}   base null: the whole table
      {"welcome": version}          what you have is what I have
      {"send": "table"}             I lost mine: tell me yours

Unknown messages and fields are ignored, but for what could keep somebody out (see `routing.table`). A table counts,
and is told, only once it was taken. Without a controller the worker goes on with what it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from controller.clock import read_boot_id
from controller.routing.entries import decode_table
from controller.routing.snapshot import parse_snapshot
from controller.routing.table import FORMAT, Table, encode_table
from controller.wire.codec import render_line
from controller.wire.lines import LineReader

SOCKET, SNAPSHOT, COVERED = "feed.sock", "table.json", "covered.json"
"""Names in the working directory, which is state/proxy: a worker could not reach them by a whole path."""

_BACKOFF_S, _BACKOFF_MOST_S = 0.02, 0.5
_UNREAD_BYTES = 1024 * 1024
_KEPT_REPORTS = 1000
_SAID = 200


class Feed(asyncio.Protocol):
    """Keeps one worker's table as the controller wants it."""

    def __init__(
        self,
        *,
        worker: int,
        take: Callable[[Table], Mapping[str, str]],
        complain: Callable[[str], None],
        take_certificates: Callable[[Mapping[str, Any]], None] = lambda _: None,
        take_covered: Callable[[frozenset[str]], None] = lambda _: None,
        folder: Path = Path(),
    ) -> None:
        self.table = Table()
        self._faults: Mapping[str, str] = {}
        """What `take` said of it: apps that cannot be served."""
        self.meetings = 0
        """How often a connection to a controller was made."""
        self.first: int | None = None
        """Version of the first table that this worker ever had; None before it."""
        self._worker = worker
        self._take = take
        self._take_certificates = take_certificates
        self._take_covered = take_covered
        self._folder = folder
        self._complain = complain
        self._reader = LineReader()
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()
        self._has_table = asyncio.Event()
        self._drained: dict[tuple[str, str], int] = {}
        self._unsent: deque[Mapping[str, Any]] = deque(maxlen=_KEPT_REPORTS)

    async def run(self) -> None:
        """Stay connected until cancelled."""
        try:
            await self._stay_connected()
        finally:
            if self._transport is not None:
                self._transport.close()  # what was written goes out first

    async def _stay_connected(self) -> None:
        attempt = 0
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._lost.clear()
                await loop.create_unix_connection(lambda: self, str(self._folder / SOCKET))
                attempt = 0
                await self._lost.wait()
            except OSError:
                attempt += 1
            # Jitter, because a controller that comes back is met by every worker at once.
            jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            await asyncio.sleep(jitter * min(_BACKOFF_MOST_S, _BACKOFF_S * 2 ** min(attempt, 8)))

    async def wait_for_table(self, patience_s: float, patience_without_s: float) -> None:
        """
        Return once there is a table to serve from: the controller's, or after *patience_s* that of the snapshot.

        Without a snapshot either, wait *patience_without_s* in all: until then newcomers had better wait, too,
        than be told that nothing is here.
        """
        if await self._has_table_within(patience_s):
            return
        if (table := load_snapshot(self._folder / SNAPSHOT)) is not None:
            self._complain("no controller: serving from the snapshot")
            self._take_covered(load_covered(self._folder / COVERED))
            self._put_in_force(table)
        elif not await self._has_table_within(patience_without_s - patience_s):
            self._complain("no controller and no snapshot: serving without routes")

    async def _has_table_within(self, patience_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._has_table.wait(), patience_s)
        return self._has_table.is_set()

    def report(self, message: Mapping[str, Any]) -> None:
        """Tell the controller at once, or as soon as there is one."""
        if message.get("kind") == "drained":
            self._drained[(message["app"], message["upstream"])] = message["version"]
        if not self._send(message) and message.get("kind") not in ("drained", "meters"):
            self._unsent.append(message)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._reader = LineReader()
        self.meetings += 1
        self._send({"hello": self._introduce()})
        while self._unsent:
            self._send(self._unsent.popleft())

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost.set()

    def data_received(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            try:
                self._hear(message)
            except Exception as error:  # noqa: BLE001 - whatever it is, what is in force stays
                self._refuse(repr(error)[:_SAID])
                return
        if self._reader.fault:
            self._refuse(self._reader.fault)

    def _refuse(self, why: str) -> None:
        # Met anew, the controller sends the whole table. What is in force stays till then.
        self._complain(f"the controller cannot be understood: {why}")
        if self._transport is not None:
            self._transport.abort()

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "apps" in message:
            self._receive(message)
        elif "certificates" in message:
            self._take_certificates(message["certificates"])
        elif "welcome" in message:
            self._has_table.set()
        elif message.get("send") == "table":
            self._send({"table": encode_table(self.table)})

    def _introduce(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "worker": self._worker,
            "pid": os.getpid(),
            "version": self.table.version,
            "first": self.first,
            "drained": [
                {"app": app, "upstream": upstream, "version": version}
                for (app, upstream), version in self._drained.items()
            ],
            "faults": dict(self._faults),
        }

    def _receive(self, message: Mapping[str, Any]) -> None:
        version, base = int(message["version"]), message.get("base")
        if base is not None and base != self.table.version:
            self._send({"behind": self.table.version})
            return
        self._put_in_force(decode_table({"sticky_key": self.table.sticky_key, **message}, self.table.apps))
        self._send({"confirm": version} | ({"faults": dict(self._faults)} if self._faults else {}))

    def _put_in_force(self, table: Table) -> None:
        self._faults = self._take(table)
        # Only now: what could not be taken is not there, or the next change would be taken on top of it.
        changed = {name for name, routes in table.apps.items() if self.table.apps.get(name) is not routes}
        self.table = table
        self._forget_returned(table, changed)
        self.first = table.version if self.first is None else self.first
        self._has_table.set()

    def _forget_returned(self, table: Table, changed: set[str]) -> None:
        # An upstream that is picked again is not drained; told at a reconnect, the old word would end live requests.
        for app, upstream in [key for key in self._drained if key[0] in changed]:
            if any(one.id == upstream and one.state in ("ready", "assets") for one in table.apps[app].upstreams):
                del self._drained[(app, upstream)]
        while len(self._drained) > _KEPT_REPORTS:
            del self._drained[next(iter(self._drained))]

    def _send(self, message: Mapping[str, Any]) -> bool:
        if self._transport is None or self._transport.is_closing():
            return False
        if self._transport.get_write_buffer_size() > _UNREAD_BYTES:
            # The controller is stopped or hangs. What it must know is told again when we meet it anew.
            self._transport.abort()
            return False
        self._transport.write(render_line(message))
        return True


def load_snapshot(place: Path) -> Table | None:
    """Return the table that the controller wrote last; None where there is none, or only a torn one."""
    try:
        return parse_snapshot(place.read_bytes(), read_boot_id())[0]
    except (OSError, ValueError):
        return None


def load_covered(place: Path) -> frozenset[str]:
    """Return the names that had a certificate when the controller wrote them down last; none where it did not."""
    try:
        names = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError):
        return frozenset()
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()
