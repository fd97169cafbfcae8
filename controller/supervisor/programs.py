"""How the controller and the nursery are started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import controller
from controller.kernel import die_with_parent
from controller.knobs import ProxyUser
from controller.proxy.nursery import render_status
from controller.settings import Settings, variable_of
from controller.supervisor.groups import limit_groups
from controller.wire.lines import LineSocket

_OURSELVES = (sys.executable, "-P", "-m", "controller")
# -P: a folder named "controller" in the user's working directory must not be run as root instead of us.

_STDERR = 2
_KEPT_FOR_NURSERY = frozenset(("PATH", "LANG", "LANGUAGE", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SSL_CERT_FILE"))


@dataclass(frozen=True, slots=True)
class Programs:
    """Command lines to which the descriptor of the control channel, or the rendered Birth, is appended."""

    controller: tuple[str, ...] = (*_OURSELVES, "_controller")
    nursery: tuple[str, ...] = (*_OURSELVES, "_nursery")
    inspector: tuple[str, ...] = (*_OURSELVES, "_inspector")


@dataclass(slots=True)
class Child:
    """A running child and our end of its channel."""

    process: subprocess.Popen[bytes]
    channel: LineSocket
    started: float
    ready: bool = False

    @property
    def ended(self) -> int | None:
        """Its exit code once it has ended."""
        return self.process.poll()


def start_controller(programs: Programs, settings: Settings, lock_fd: int, now: float) -> Child:
    """Start the controller; it holds our lock too, and is killed when we end however we end."""
    ours, theirs = socket.socketpair()
    environ = os.environ | render_environment(settings) | _python_path() | {"OTON_LOCK_FD": str(lock_fd)}
    with theirs:
        process = subprocess.Popen(
            (*programs.controller, str(theirs.fileno())),
            pass_fds=(theirs.fileno(), lock_fd),
            stdin=subprocess.DEVNULL,
            env=environ,
            start_new_session=True,  # Ctrl-C is for us; we tell it in our own order
            preexec_fn=die_with_parent,  # noqa: PLW1509 - we have no threads
        )
    return Child(process, LineSocket(ours), now)


def start_nursery(
    programs: Programs, birth: str, control: socket.socket, inherited: Collection[int]
) -> subprocess.Popen[bytes]:
    """Start a nursery with nothing of our environment that a worker has no use for."""
    with limit_groups() as (environ, files):
        return subprocess.Popen(
            (*programs.nursery, birth),
            pass_fds=(control.fileno(), *inherited, *files),
            stdin=subprocess.DEVNULL,
            env=_bare_environment() | environ,
            start_new_session=True,
        )


def start_inspector(
    programs: Programs, birth: str, number: int, app: str, inherited: Collection[int]
) -> subprocess.Popen[bytes]:
    """Start an app's inspector. It shares no memory with anybody; *inherited* are its channel and its folder."""
    return subprocess.Popen(
        (*programs.inspector, birth, str(number), app),
        pass_fds=tuple(inherited),
        stdin=subprocess.DEVNULL,
        stdout=_STDERR,  # what addons print is no line of the access log
        env=_bare_environment(),
        start_new_session=True,
    )


def _bare_environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_FOR_NURSERY or name.startswith(("LC_", "PYTHON", "COVERAGE_"))
    }
    return kept | _python_path()


class HasProcess(Protocol):
    """What `reap` may find ended."""

    @property
    def process(self) -> subprocess.Popen[bytes]: ...


def reap[Ended: HasProcess](children: Collection[Ended], log: Any) -> Iterator[Ended]:
    """Take in every process that has ended and is ours to take in; yield those that are among *children*."""
    by_pid = {child.process.pid: child for child in children}
    while True:
        try:
            # Looked at first and taken in by its owner: Popen would never learn how its child ended.
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None:
            return
        if found.si_pid in by_pid:
            by_pid[found.si_pid].process.wait()
            yield by_pid[found.si_pid]
        else:  # a worker whose nursery has gone, or what a controller left behind
            _, status = os.waitpid(found.si_pid, 0)
            log.debug("process ended", pid=found.si_pid, status=render_status(os.waitstatus_to_exitcode(status)))


def render_environment(settings: Settings) -> dict[str, str]:
    """Return the environment from which a child reads the very same settings."""
    return {variable_of(name): _render(name, getattr(settings, name)) for name in type(settings).model_fields}


def _render(name: str, value: object) -> str:
    match value:
        case None:
            return "off" if name == "api" else ""
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.3f}s"
        case ProxyUser():
            return f"{value.uid}:{value.gid}"
        case (str() as host, int() as port):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)


def _python_path() -> dict[str, str]:
    root = str(Path(str(controller.__file__)).parents[1])
    given = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": root if not given else given if root in given.split(":") else f"{root}:{given}"}
