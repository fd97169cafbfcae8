"""
The inspectors as the supervisor keeps them: one for each app that the controller named, watched by its signs of life.

An inspector that dies or falls silent takes nothing with it: its socket is gone with it, and the lane goes round.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from controller.knobs import ProxyUser
from controller.proxy.birth import Birth
from controller.settings import Settings
from controller.supervisor.backoff import Backoff
from controller.supervisor.hearing import INSPECTOR_LINE_BYTES, FromChild
from controller.supervisor.programs import Programs, start_inspector
from controller.supervisor.walls import derive_user, open_folder, remove_folder
from controller.wire.lines import LineSocket

SILENT_S = 2.0
"""An inspector that has shown no sign of life for so long is killed."""

_LATE_S = 0.5
"""Beyond this, time in which we ourselves did not look is nobody's silence."""

_START_S = 20.0
_MARGIN_S = 3.0


@dataclass(slots=True)
class Inspector:
    """One live inspector, from the moment it was started."""

    number: int
    app: str
    wish: str
    """What it was started for: it is replaced when the controller names something else."""
    generation: int
    channel: LineSocket
    born: float
    process: subprocess.Popen[bytes]
    user: ProxyUser | None
    accepting: bool = False
    heard: float | None = None
    """Monotonic seconds of its last sign of life; None: none yet."""
    retires_by: float | None = None
    killed: bool = False

    @property
    def pid(self) -> int:
        """Number of its process."""
        return self.process.pid


@dataclass(slots=True)
class Inspectors:
    """All inspectors, and which there should be; tells *changed* whenever one begins or ends."""

    log: Any
    changed: Callable[[], None]
    folder: int
    """state/proxy, open."""
    programs: Programs
    settings: Settings
    wanted: Mapping[str, str] = field(default_factory=dict)
    """App -> what its inspector shall be started for."""
    _live: dict[int, Inspector] = field(default_factory=dict)
    _backoffs: dict[str, Backoff] = field(default_factory=dict)
    _ended: list[Inspector] = field(default_factory=list)
    """Those whose channel has closed, until their process is reaped."""
    _numbers: int = 0
    _looked: float = 0.0

    def __iter__(self) -> Iterator[Inspector]:
        return iter(tuple(self._live.values()))

    def __len__(self) -> int:
        return len(self._live)

    def take_wishes(self, wanted: Mapping[str, str]) -> None:
        """Take the controller's word of what should be; a change starts anew without a pause."""
        for app in [app for app in self._backoffs if self.wanted.get(app) != wanted.get(app)]:
            del self._backoffs[app]
        self.wanted = dict(wanted)

    def next_missing(self, generation: int, now: float) -> str | None:
        """Return an app that lacks an inspector of this generation and wish, and may have one now."""
        there = {(one.app, one.wish, one.generation) for one in self if one.retires_by is None and not one.killed}
        for app, wish in sorted(self.wanted.items()):
            backoff = self._backoffs.get(app)
            if (app, wish, generation) not in there and (backoff is None or now >= backoff.due):
                return app
        return None

    def begin(self, app: str, generation: int, now: float) -> Inspector:
        """Start an inspector of *app*, as a user and in a folder that no other app's has. Raises OSError."""
        user = self._user_of(app)
        ours, theirs = socket.socketpair()
        with ExitStack() as theirs_alone, ExitStack() as unless_started:
            unless_started.enter_context(ours)
            theirs_alone.enter_context(theirs)
            folder = open_folder(self.folder, app, user, self.settings.proxy_user)
            theirs_alone.callback(os.close, folder)
            birth = self._describe(theirs.fileno(), folder, user)
            self._numbers += 1
            process = start_inspector(self.programs, birth.render(), self._numbers, app, (theirs.fileno(), folder))
            unless_started.pop_all()
        line = LineSocket(ours, INSPECTOR_LINE_BYTES)
        inspector = Inspector(self._numbers, app, self.wanted[app], generation, line, now, process, user)
        self._live[inspector.number] = inspector
        self.changed()
        return inspector

    def _user_of(self, app: str) -> ProxyUser | None:
        known = next((one.user for one in self if one.app == app), None)
        if known is not None:
            return known  # its folder is already theirs
        taken = {one.user.uid for one in self if one.user is not None}
        return derive_user(str(self.settings.state), app, self.settings.proxy_user, taken)

    def _describe(self, control: int, folder: int, user: ProxyUser | None) -> Birth:
        return Birth(
            control=control,
            folder=folder,
            uid=user.uid if user is not None else None,
            gid=user.gid if user is not None else None,
            stop_timeout_s=self.settings.stop_timeout_s,
            log_level=self.settings.log_level,
        )

    def processes(self) -> list[Inspector]:
        """Return all whose process may have to be reaped."""
        return [*self._live.values(), *self._ended]

    def get(self, pid: int) -> Inspector | None:
        """Return a live inspector by its process."""
        return next((one for one in self if one.pid == pid), None)

    def roster(self) -> dict[str, str]:
        """Return the apps of all live inspectors by the numbers of their processes, as JSON has them."""
        return {str(one.pid): one.app for one in self}

    def hear(self, inspector: Inspector, message: FromChild, now: float) -> None:
        """Take what an inspector says."""
        inspector.heard = now
        if message.accepting:
            inspector.accepting = True
            self.log.info("inspector is serving", app=inspector.app, pid=inspector.pid)
        elif message.level is not None:
            getattr(self.log, message.level)(message.event, inspector=inspector.app)

    def retire_needless(self, limit_s: float, now: float) -> None:
        """Let those go that nobody wants any more, and those whose successor serves."""
        for one in self:
            if one.retires_by is not None:
                continue
            if one.app not in self.wanted or self._is_succeeded(one):
                self.retire(one, limit_s, now)

    def _is_succeeded(self, old: Inspector) -> bool:
        return any(
            one.app == old.app and one.accepting and one.number > old.number and one.retires_by is None for one in self
        )

    def retire(self, inspector: Inspector, limit_s: float, now: float) -> None:
        """Let an inspector finish what it has open within *limit_s* and go."""
        if inspector.retires_by is None:
            inspector.retires_by = now + limit_s + _MARGIN_S
            inspector.channel.send({"retire": limit_s})

    def kill_silent(self, now: float) -> None:
        """Kill those that stand still, did not begin in time, or do not go."""
        late = max(0.0, now - self._looked - _LATE_S) if self._looked else 0.0
        self._looked = now
        for one in self:
            if one.heard is not None:
                one.heard += late
            if not one.killed and (why := _judge(one, now)):
                self.log.warning("inspector killed", app=one.app, pid=one.pid, why=why)
                self.kill(one)

    def kill(self, inspector: Inspector) -> None:
        """End an inspector at once; it is struck off when its channel closes."""
        inspector.killed = True
        inspector.process.kill()

    def lose(self, inspector: Inspector, now: float) -> None:
        """Strike one off that has ended, and see to when its successor may begin."""
        if self._live.pop(inspector.number, None) is None:
            return
        inspector.channel.close()
        inspector.process.kill()  # one that only closed its end would go on
        self._ended.append(inspector)
        if inspector.app not in self.wanted and all(one.app != inspector.app for one in self):
            remove_folder(self.folder, inspector.app)
        if inspector.retires_by is None and inspector.app in self.wanted:
            backoff = self._backoffs.setdefault(inspector.app, Backoff())
            wait_s = backoff.ended(now, now - inspector.born)
            times = backoff.failures
            self.log.warning("inspector ended", app=inspector.app, times_in_a_row=times, starts_again_in_s=wait_s)
        self.changed()

    def forget(self, inspector: Inspector) -> None:
        """Let go of one whose process was reaped."""
        self._ended.remove(inspector)

    def dues(self, now: float) -> Iterator[float]:
        """Return when something is to be looked at again."""
        if self._live:
            yield now + _LATE_S / 2
        yield from (backoff.due for app, backoff in self._backoffs.items() if app in self.wanted and backoff.due > now)


def _judge(one: Inspector, now: float) -> str:
    if one.retires_by is not None and now > one.retires_by:
        return "it did not end in time"
    if one.heard is None:
        return "it did not start in time" if now > one.born + _START_S else ""
    return f"no sign of life for {SILENT_S:g} s" if now > one.heard + SILENT_S else ""
