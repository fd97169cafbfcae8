"""
What a worker or an inspector is born with: plain values that the supervisor hands to the nursery, and the nursery to
its workers; an inspector has a birth of its own.

Open files travel as descriptor numbers that the child inherits under the same number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from controller.kernel import drop_privileges, forbid_new_privileges
from controller.proxy.reach import keep_within_reach
from controller.seccomp import give_up_calls


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """The inheritance of every worker of one nursery."""

    control: int
    """The nursery's (or the inspector's) own end of its channel to the supervisor."""
    plain: tuple[int, ...] = ()
    """Listening sockets for HTTP."""
    tls: tuple[int, ...] = ()
    """Listening sockets for HTTPS."""
    shared: int | None = None
    """The shared counters' memory."""
    folder: int
    """
    The working directory, opened before the rights to reach it were dropped: state/proxy with the feed's socket and
    the snapshot, or the inspector's own folder.
    """
    access_log: int | None = None
    """Where access log lines go; None: nowhere."""
    uid: int | None = None
    """Whom to become; None: stay who we are."""
    gid: int | None = None
    stop_timeout_s: float = 30.0
    """Longest drain of a worker that was told to go by a signal instead of by the supervisor."""
    trusted_proxies: tuple[str, ...] = ()
    log_query: bool = False
    """Whether access log lines show query strings."""
    log_level: str = "info"

    def render(self) -> str:
        """Return it as one argument of a command line."""
        return json.dumps(asdict(self), separators=(",", ":"))


def parse_birth(text: str) -> Birth:
    """Read what `Birth.render` wrote; unknown fields are ignored."""
    raw: Mapping[str, Any] = json.loads(text)
    known = {field.name for field in fields(Birth)}
    given: dict[str, Any] = {name: value for name, value in raw.items() if name in known}
    given |= {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return Birth(**given)


def become(birth: Birth) -> None:
    """Give away every right that is not needed, for good, and before anything is imported that could misuse it."""
    if birth.uid is not None:
        gid = birth.gid if birth.gid is not None else birth.uid
        keep_within_reach(birth.uid, gid)
        drop_privileges(birth.uid, gid)
        os.environ.update(HOME="/nonexistent", USER="", LOGNAME="")
    else:
        forbid_new_privileges()
    give_up_calls()
    os.umask(0o077)
    os.environ["UV_USE_IO_URING"] = "0"  # libuv would start a kernel thread per worker for files that we do not read
