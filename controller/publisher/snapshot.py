"""
The table on disk: what a worker serves from while there is no controller, and what a controller starts with.

Written whole and renamed into place, so that a reader sees one table or the other. Losing it loses nothing:
the workers still have theirs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from controller.clock import read_boot_id
from controller.routing.snapshot import parse_snapshot
from controller.routing.table import FORMAT, AppRoutes, Table, encode_app

NAME = "table.json"
COVERED = "covered.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A table, and since which version each of its former upstreams may not be picked any more."""

    table: Table = field(default_factory=Table)
    leaving: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """App -> upstream id -> version."""


class SnapshotFile:
    """The file, with each app's text kept: a change of one app does not write ten thousand others anew."""

    def __init__(self, folder: Path) -> None:
        self._place = folder / NAME
        self._boot = read_boot_id()
        self._texts: dict[str, bytes] = {}

    def load(self) -> Snapshot | None:
        """Return what was saved last; None where there is nothing that can be read."""
        try:
            table, raw = parse_snapshot(self._place.read_bytes(), self._boot)
            leaving = {
                str(app): {str(upstream): int(version) for upstream, version in upstreams.items()}
                for app, upstreams in raw.get("leaving", {}).items()
            }
            return Snapshot(table=table, leaving=leaving)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def save(self, snapshot: Snapshot, changed: Collection[str]) -> None:
        """
        Replace the file; raises OSError and leaves the old one where that fails.

        *changed* names the apps whose entry is another one than at the last save.
        """
        apps = snapshot.table.apps
        fresh = (apps.keys() - self._texts.keys()) | (apps.keys() & set(changed))
        texts = self._texts | {name: _render_entry(name, apps[name]) for name in sorted(fresh)}
        for name in texts.keys() - apps.keys():
            del texts[name]
        _write(self._place, _render(snapshot, self._boot, texts))
        self._texts = texts

    def save_covered(self, names: Collection[str]) -> None:
        """Write down which names have a certificate: workers without a controller send these to HTTPS all the same."""
        _write(self._place.with_name(COVERED), json.dumps(sorted(names)).encode())


def _write(place: Path, data: bytes) -> None:
    temporary = place.with_name(f".{place.name}.tmp")
    with suppress(FileNotFoundError):
        temporary.unlink()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o640)  # whatever the umask: workers read it as members of the folder's group
        file.write(data)
        file.flush()
        os.fsync(fd)
    temporary.replace(place)


def _render(snapshot: Snapshot, boot: str, texts: Mapping[str, bytes]) -> bytes:
    table = snapshot.table
    fields = {"format": FORMAT, "version": table.version, "sticky_key": table.sticky_key, "boot": boot}
    head = json.dumps(fields)[:-1]
    leaving = json.dumps(snapshot.leaving)
    return b'%s,\n"leaving":%s,\n"apps":{\n%s}}\n' % (head.encode(), leaving.encode(), b",\n".join(texts.values()))


def _render_entry(name: str, routes: AppRoutes) -> bytes:
    return f"{json.dumps(name)}:{json.dumps(encode_app(routes), separators=(',', ':'))}".encode()
