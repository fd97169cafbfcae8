"""
Keep the program's own files within reach of a user who may not search the folders above them.

A Python below /root is the usual case: its files are readable for all, /root is not. What lies on the
module path is opened while we still may, and the path then names the open folders.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path


def keep_within_reach(uid: int, gid: int) -> tuple[str, ...]:
    """Make imports work for *uid*, whom we are about to become; return the folders it could not reach."""
    folders = [entry for entry in sys.path if Path(entry).is_dir()]
    blocked = {entry: _hold(entry) for entry in folders if not _can_search(Path(entry), uid, gid)}
    sys.path[:] = [blocked.get(entry, entry) for entry in sys.path]
    for module in tuple(sys.modules.values()):
        # Packages that are loaded already keep a path of their own for what is imported from them later.
        path = getattr(module, "__path__", None)
        if isinstance(path, list):
            path[:] = [_translate(entry, blocked) for entry in path]
    return tuple(sorted(blocked))


def _hold(entry: str) -> str:
    flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
    return f"/proc/self/fd/{os.open(entry, flags)}"


def _translate(entry: str, blocked: dict[str, str]) -> str:
    for root in sorted(blocked, key=len, reverse=True):
        if entry == root or entry.startswith(root + "/"):
            return blocked[root] + entry[len(root) :]
    return entry


def _can_search(place: Path, uid: int, gid: int) -> bool:
    resolved = place.resolve()
    return all(_may_enter(folder, uid, gid) for folder in (resolved, *resolved.parents, *place.absolute().parents))


def _may_enter(folder: Path, uid: int, gid: int) -> bool:
    found = folder.stat()
    if found.st_uid == uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)
