"""
Where workers are born: a process that pays for importing mitmproxy once and then forks in milliseconds.

It has no thread and no event loop, so a fork copies nothing half-done. It gives its rights away before it
imports anything that could be made to misuse them. It takes one command at a time:

    -> {"fork": 7} with descriptors: the worker's channel, and a file in memory with the certificates it begins with
    <- {"born": 7, "pid": 4711}   or   {"stillborn": 7, "why": "..."}
    <- {"died": 4711, "status": "exited with 0"}

and ends when the supervisor's end closes. Workers outlive it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from controller.kernel import name_process
from controller.proxy.birth import Birth, become, parse_birth
from controller.wire.codec import Unreadable, render_line
from controller.wire.fields import as_whole
from controller.wire.lines import LineReader

Serve = Callable[[Birth, int, socket.socket, int | None], None]
"""Runs one worker to its end: its birth, number and channel to the supervisor, and a file with certificates."""

_LINE_BYTES = 64 * 1024

NO_RIGHTS = 3
"""Exit code: the proxy user cannot be had, or cannot read the program; trying again is no use."""


def run_nursery(argument: str, load: Callable[[], Serve] | None = None) -> int:
    """Fork workers on command until the supervisor goes; *argument* is a rendered Birth."""
    birth = parse_birth(argument)
    name_process("oton-nursery")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal sends these to all of us; the supervisor decides
    control = socket.socket(fileno=birth.control)
    os.set_inheritable(birth.control, False)
    os.fchdir(birth.folder)
    try:
        become(birth)
        serve = (load or _load_worker)()
    except (OSError, ImportError) as error:
        _say(control, {"failed": _explain(birth, error)})
        return NO_RIGHTS
    gc.collect()
    gc.freeze()  # what every worker shares stays shared: the collector would touch, and so copy, each page
    _say(control, {"ready": True})
    return _Nursery(birth, control, serve).run()


def _load_worker() -> Serve:
    from controller.proxy.worker import serve_worker  # noqa: PLC0415 - only after the rights are gone

    return serve_worker


def _explain(birth: Birth, error: Exception) -> str:
    if birth.uid is None:
        return f"the proxy cannot be loaded: {error}"
    return f"OTON_PROXY_USER: as uid {birth.uid} the proxy cannot be loaded ({error}); can it read the program's files?"


def _say(control: socket.socket, message: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the supervisor has gone: the next read says so
        control.sendall(render_line(message))


class _Nursery:
    def __init__(self, birth: Birth, control: socket.socket, serve: Serve) -> None:
        self._birth = birth
        self._control = control
        self._serve = serve
        self._reader = LineReader(_LINE_BYTES)
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)

    def run(self) -> int:
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        while True:
            ready, _, _ = select.select([self._control.fileno(), self._woken], [], [])
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                self._reap()
            if self._control.fileno() in ready and not self._obey():
                return 0

    def _obey(self) -> bool:
        try:
            data, fds, _, _ = socket.recv_fds(self._control, 4096, 4)
        except OSError:
            return False
        if not data:
            return False
        try:
            for message in self._reader.feed(data):
                if "fork" in message and fds:
                    self._bear(as_whole(message["fork"]), fds[0], *fds[1:2])
            if self._reader.fault:
                raise Unreadable(self._reader.fault)
        except Unreadable as error:
            sys.stderr.write(f"oton: unreadable message from the supervisor: {error}\n")
            return False  # as if it had gone; our workers live on, and it starts another of us
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _bear(self, number: int, channel: int, certificates: int | None = None) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            _say(self._control, {"stillborn": number, "why": str(error)})
            return
        if pid == 0:
            self._live(number, channel, certificates)
        _say(self._control, {"born": number, "pid": pid})

    def _live(self, number: int, channel: int, certificates: int | None) -> None:
        """In the child; never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (self._woken, self._wake):
                os.close(fd)
            self._control.close()
            os.set_inheritable(channel, False)
            self._serve(self._birth, number, socket.socket(fileno=channel), certificates)
            code = 0
        except BaseException:  # noqa: BLE001 - nothing may get past this line into the nursery's own code
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            _say(self._control, {"died": pid, "status": render_status(os.waitstatus_to_exitcode(status))})


def render_status(code: int) -> str:
    """Say in words how a process ended."""
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
