"""The nursery in use, the one that is to follow it, and the worker that is being born."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.kernel import seal_in_memory
from controller.proxy.birth import Birth
from controller.settings import Settings
from controller.supervisor.crew import Worker
from controller.supervisor.hearing import NURSERY_LINE_BYTES
from controller.supervisor.programs import Child, Programs, start_nursery
from controller.supervisor.sockets import Public
from controller.wire.codec import render_line
from controller.wire.lines import LineSocket

_STDOUT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What the supervisor owns and every worker is born with."""

    settings: Settings
    public: Public
    shared: int
    folder: int


class Nursing:
    """Starts nurseries and has them fork, one worker at a time."""

    def __init__(self, inheritance: Inheritance, programs: Programs, log: Any) -> None:
        self._inheritance = inheritance
        self._programs = programs
        self._log = log
        self.current: Child | None = None
        self.incoming: Child | None = None
        """A nursery that loads while the current one still works."""
        self.former: list[Child] = []
        """Nurseries that were told to end."""
        self.unborn: Worker | None = None
        """The worker that was asked for last, until the nursery has answered."""
        self.generation = 1
        self._certificates: int | None = None
        """A file in memory with the certificates that workers are born with."""

    def __iter__(self) -> Any:
        return iter([one for one in (self.current, self.incoming, *self.former) if one is not None])

    @property
    def is_free(self) -> bool:
        """Say whether a worker can be asked for now."""
        return self.current is not None and self.current.ready and self.unborn is None

    def begin(self, now: float) -> Child:
        """Start a nursery and return it; the caller says whether it is the current or the incoming one."""
        with contextlib.ExitStack() as theirs_alone:
            access_log = self._open_access_log()
            inherited = {self._inheritance.shared, self._inheritance.folder}
            if access_log is not None and access_log != _STDOUT:
                theirs_alone.callback(os.close, access_log)
                inherited.add(access_log)
            ours, theirs = socket.socketpair()
            theirs_alone.enter_context(theirs)
            birth = self._describe(theirs.fileno(), access_log)
            process = start_nursery(self._programs, birth.render(), theirs, inherited | {*birth.plain, *birth.tls})
        return Child(process, LineSocket(ours, NURSERY_LINE_BYTES), now)

    def keep(self, certificates: Mapping[str, Any]) -> None:
        """Have every worker born with *certificates*: it needs them for its first handshake, controller or not."""
        if self._certificates is not None:
            os.close(self._certificates)
        self._certificates = seal_in_memory("oton-certificates", json.dumps(certificates).encode())

    def fork(self, worker: Worker, inherits: socket.socket) -> None:
        """Have *worker* forked, with the end of its channel that it inherits."""
        message: dict[str, object] = {"fork": worker.number}
        files = [inherits.fileno()]
        if self._certificates is not None:
            files.append(self._certificates)
        self.unborn = worker
        with inherits, contextlib.suppress(OSError):  # a nursery that has gone is seen by its end
            if self.current is not None:
                socket.send_fds(self.current.channel.sock, [render_line(message)], files)

    def take_born(self, number: int) -> Worker | None:
        """Return whom the nursery's answer is about; None where nobody of that number was asked for."""
        born = self.unborn
        if born is None or born.number != number:
            return None
        self.unborn = None
        return born

    def take_over(self) -> Child | None:
        """Make the incoming nursery the current one, of a new generation; return the one to be dismissed."""
        old, self.current, self.incoming = self.current, self.incoming, None
        self.generation += 1
        if old is not None:
            self.former.append(old)
        return old

    def forget(self, child: Child) -> None:
        """Let go of a nursery that has ended."""
        if child is self.current:
            self.current = None
        elif child is self.incoming:
            self.incoming = None
        else:
            self.former.remove(child)

    def _describe(self, control: int, access_log: int | None) -> Birth:
        settings, public = self._inheritance.settings, self._inheritance.public
        user = settings.proxy_user
        return Birth(
            control=control,
            plain=tuple(sock.fileno() for sock in public.plain),
            tls=tuple(sock.fileno() for sock in public.tls),
            shared=self._inheritance.shared,
            folder=self._inheritance.folder,
            access_log=access_log,
            uid=user.uid if user is not None else None,
            gid=user.gid if user is not None else None,
            stop_timeout_s=settings.stop_timeout_s,
            trusted_proxies=settings.trusted_proxies,
            log_query=settings.access_log_query,
            log_level=settings.log_level,
        )

    def _open_access_log(self) -> int | None:
        """Opened anew for each nursery, so that SIGHUP also follows a rotated file."""
        where = self._inheritance.settings.access_log
        if where == "off":
            return None
        try:
            if where == "stdout":
                os.fstat(_STDOUT)
                return _STDOUT
            return os.open(where, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            self._log.error("no access log", file=where, why=error.strerror)
            return None
