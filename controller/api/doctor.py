"""What a person should know about the machine and the service on it, one line each, with how to mend it."""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from controller.api.parts import Parts
from controller.errors import ControllerError
from controller.seccomp import is_limited

LOW_BYTES = 1024**3
"""Less free space than this is worth a warning: an image or a busy log may need it at once."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line; *mend* says what to do, and is empty where nothing is wrong."""

    what: str
    state: Literal["ok", "warning", "error"]
    text: str
    mend: str = ""


def examine(parts: Parts) -> list[Any]:
    """Return every finding, the engine's first; never raises."""
    found: list[Any] = list(parts.engine.doctor())
    found += [*check_proxy(parts), *check_directory(parts), *check_store(parts)]
    if parts.settings is not None:
        found += [*check_places(parts.settings), *check_walls(parts.settings)]
        found += check_calls(parts.publisher.processes())
    return [*found, *parts.findings(), check_versions(parts)]


def check_proxy(parts: Parts) -> Iterator[Finding]:
    """Say whether every worker has the newest table."""
    workers = parts.publisher.workers()
    if not workers:
        yield Finding("proxy", "error", "no worker has registered", "see the service's log; it starts them again")
    elif not parts.publisher.is_current():
        yield Finding("proxy", "warning", f"a worker of {len(workers)} has not confirmed the newest table yet")
    else:
        yield Finding("proxy", "ok", f"workers: {len(workers)}, all with the newest table")


def check_directory(parts: Parts) -> Iterator[Finding]:
    """Say what is wrong in the watched directory, and how it is watched."""
    broken = [one.invalid for one in parts.directory.standings().values() if one.invalid]
    broken += [one.text for one in parts.directory.problems()]
    for text in broken:
        yield Finding("specs", "warning", text, "fix the file; until then its last good spec stays in effect")
    if parts.directory.is_polling():
        text = "changes are found by looking every second: the kernel gives no notice of them"
        yield Finding("watching", "warning", text, "raise fs.inotify.max_user_watches, or use a local file system")
    elif not broken:
        yield Finding("specs", "ok", f"apps in the watched directory: {len(parts.directory.standings())}")


def check_store(parts: Parts) -> Iterator[Finding]:
    """Say whether the database answers."""
    try:
        parts.ledger.last_event_id()
    except ControllerError as error:
        yield Finding("database", "error", str(error), "free space on its disk, or restore a backup")
    else:
        yield Finding("database", "ok", "answers")


def check_places(settings: Any) -> Iterator[Finding]:
    """Say how much room is left, and whether the state directory and socket are as private as they should be."""
    for what, path in (("state", settings.state), ("database", settings.db_path.parent)):
        try:
            free = shutil.disk_usage(path).free
        except OSError as error:
            text = f"{path} cannot be looked at: {error.strerror or error}"
            yield Finding(f"disk ({what})", "error", text, "see that it is there and mounted, then restart the service")
            continue
        text = f"{free / 1024**3:.1f} GiB free at {path}"
        if free < LOW_BYTES:
            yield Finding(f"disk ({what})", "warning", text, "free some space: a full disk stops every change")
        else:
            yield Finding(f"disk ({what})", "ok", text)
    if not Path(settings.state).exists():
        return
    mode = stat.S_IMODE(Path(settings.state).stat().st_mode)
    if mode & 0o077:
        yield Finding(
            "permissions",
            "error",
            f"{settings.state} is accessible to others ({mode:o})",
            f"chmod 700 {settings.state}",
        )
    elif Path(settings.socket).exists():
        mode = stat.S_IMODE(Path(settings.socket).stat().st_mode)
        yield Finding("permissions", "ok", f"state 700, socket {settings.socket} {mode:o}")
    else:
        yield Finding("permissions", "error", f"the socket {settings.socket} is gone", "restart the service")


def check_walls(settings: Any) -> Iterator[Finding]:
    """Say whether the proxy workers are another user than the controller."""
    if os.geteuid() == 0:
        user = settings.proxy_user
        yield Finding(
            "walls",
            "ok",
            f"workers run as uid {user.uid}, each inspector as a user of its own"
            if user is not None
            else "workers run as an unknown user",
        )
    else:
        text = "workers and inspectors run as the same user as the controller, and could open its database"
        text += " and the engine's socket; only their process numbers are checked"
        yield Finding("walls", "warning", text, "start the service as root; it gives the workers a user of their own")


def check_calls(processes: Iterable[int]) -> Iterator[Finding]:
    """Say whether every worker has given up the system calls that a proxy never needs."""
    found = []
    for pid in processes:
        try:
            found.append(is_limited(Path(f"/proc/{pid}/status").read_text()))
        except OSError:
            continue  # it ended a moment ago, or there is no /proc
    if not found:
        return
    if all(found):
        yield Finding("system calls", "ok", "workers have given up those that a proxy never needs (seccomp)")
    else:
        text = "workers may use every system call: no seccomp for this kernel or machine"
        yield Finding("system calls", "warning", text, "use a kernel with CONFIG_SECCOMP_FILTER on x86_64 or aarch64")


def check_vault(vault: Any) -> Finding:
    """Say whether secret files stay in memory."""
    if vault.in_memory:
        return Finding("secret files", "ok", f"in memory, below {vault.base}")
    text = f"secret files lie on a disk, below {vault.base}: no tmpfs at /run, /dev/shm or $XDG_RUNTIME_DIR"
    return Finding("secret files", "warning", text, "mount a tmpfs at /run, or use environment secrets")


def check_git(source: Any, now: float) -> Iterator[Finding]:
    """Say how the checkout stands to its remote."""
    if source is None:
        return
    state = source.state
    commit = f"{state.commit.short} of {state.branch or 'its branch'}" if state.commit is not None else "nothing yet"
    looked = f"looked {max(0, now - state.looked):.0f} s ago" if state.looked else "the remote has not been reached yet"
    if state.problem:
        mend = "what is checked out stays in effect; syncing continues by itself once this is fixed"
        yield Finding("git", "warning", f"at {commit}, {looked}: {state.problem}", mend)
    else:
        yield Finding("git", "ok", f"at {commit}, {looked}")


def check_versions(parts: Parts) -> Finding:
    """Name the versions that matter in a report of trouble."""
    names = ("mitmproxy", "docker", "sqlalchemy")
    found = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return Finding("versions", "ok", f"oton {parts.version}, Python {platform.python_version()}, {found}")
