"""
The supervisor's loop: one thread, one selector.

Whatever happens only wakes it; `_steer` then compares what is with what should be and does the next thing.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

from controller.kernel import parent_of
from controller.lock import Lock
from controller.proxy.nursery import NO_RIGHTS, render_status
from controller.supervisor.alarms import Alarms
from controller.supervisor.backoff import Restarts
from controller.supervisor.crew import Crew, Worker
from controller.supervisor.hearing import (
    Born,
    Died,
    Failed,
    FromChild,
    FromController,
    FromNursery,
    Loaded,
    Stillborn,
    parse_child,
    parse_controller,
    parse_nursery,
)
from controller.supervisor.inspecting import Inspector, Inspectors
from controller.supervisor.notify import Notifier
from controller.supervisor.nursing import Inheritance, Nursing
from controller.supervisor.programs import Child, Programs, reap, start_controller
from controller.wire.codec import Unreadable
from controller.wire.lines import LineSocket

_TICK_S = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_CANNOT_START = 2
_LAST_WORDS_S = 1.0
"""What anyone may take beyond the stop timeout before it is killed."""


class Supervisor:
    """Keeps one controller, one nursery and the wanted number of workers alive."""

    def __init__(self, inheritance: Inheritance, programs: Programs, lock: Lock, notifier: Notifier, log: Any) -> None:
        self._settings = inheritance.settings
        self._public = inheritance.public
        self._programs = programs
        self._lock = lock
        self._notifier = notifier
        self._log = log
        self._selector = selectors.DefaultSelector()
        self._crew = Crew(self._tell_roster)
        self._inspectors = Inspectors(log, self._tell_roster, inheritance.folder, programs, inheritance.settings)
        self._nursing = Nursing(inheritance, programs, log)
        self._controller: Child | None = None
        self._restarts = Restarts(log)
        self._controller_acted = self._serves = False
        self._replace_asked = self._replacing = False
        self._stop_by: float | None = None
        self._cut = False
        self._code = 0

    def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        with Alarms(_SIGNALS) as alarms:
            self._selector.register(alarms, selectors.EVENT_READ)
            try:
                while True:
                    for number in alarms.take():
                        self._obey(number, time.monotonic())
                    self._steer(time.monotonic())
                    if self._is_over():
                        break
                    self._wait(alarms, time.monotonic())
            finally:
                self._end_all()
        self._say("stopped")
        return self._code

    def _say(self, text: str, **fields: object) -> None:
        say = self._log.debug if self._code else self._log.info
        say(text, **fields)

    # What should be

    def _steer(self, now: float) -> None:
        self._notifier.alive(now)
        for worker in self._crew.overdue(now):
            self._log.warning("worker killed", worker=worker.number, why="it did not start or end in time")
            self._crew.kill(worker)
        self._inspectors.kill_silent(now)  # they serve until the last worker has gone
        if self._stop_by is not None:
            if now > self._stop_by + _LAST_WORDS_S:
                self._end_all()
            return
        if self._nursing.current is None:
            self._restarts.begin("nursery", self._begin_current, now)
        if self._controller is None:
            self._restarts.begin("controller", self._begin_controller, now)
        if self._replace_asked and not self._replacing:
            self._restarts.begin("nursery", self._begin_replacing, now)
        self._restarts.begin("worker", self._fill_crew, now)
        self._inspectors.retire_needless(self._settings.stop_timeout_s, now)
        self._restarts.begin("worker", self._fill_inspectors, now)
        if self._replacing:
            self._retire_old(now)
        if not self._serves:
            self._say_when_serving()

    def _fill_crew(self, now: float) -> None:
        generation = self._nursing.generation
        wanting = self._settings.workers - len(self._crew.serving(generation))
        if wanting > 0 and self._nursing.is_free:
            worker, inherits = self._crew.expect(generation, now)
            self._selector.register(worker.channel, selectors.EVENT_READ, worker)
            self._nursing.fork(worker, inherits)

    def _fill_inspectors(self, now: float) -> None:
        generation = self._nursing.generation
        while (app := self._inspectors.next_missing(generation, now)) is not None:
            inspector = self._inspectors.begin(app, generation, now)
            self._selector.register(inspector.channel, selectors.EVENT_READ, inspector)

    def _begin_replacing(self, now: float) -> None:
        self._nursing.incoming = self._begin_nursery(now)
        self._replace_asked, self._replacing = False, True
        self._notifier.reloading()

    def _retire_old(self, now: float) -> None:
        """Old workers go once all the new ones accept, so that somebody accepts at every moment."""
        fresh = [one for one in self._crew.serving(self._nursing.generation) if one.accepting]
        if self._nursing.incoming is not None or len(fresh) < self._settings.workers:
            return
        for worker in self._crew:
            if worker.generation != self._nursing.generation:
                self._crew.retire(worker, self._settings.stop_timeout_s, now)
        self._end_replacing("workers replaced", workers=[one.number for one in fresh])

    def _end_replacing(self, text: str, **fields: object) -> None:
        self._replacing = False
        self._log.info(text, **fields)
        self._notifier.tell("READY=1")

    def _say_when_serving(self) -> None:
        accepting = any(worker.accepting for worker in self._crew)
        if accepting and self._controller is not None and self._controller.ready:
            self._serves = True
            addresses = self._public.describe()
            self._log.info("serving", addresses=list(addresses), workers=self._settings.workers)
            self._notifier.tell("READY=1", f"STATUS=serving {' '.join(addresses)}")

    # Signals, and the end

    def _obey(self, number: int, now: float) -> None:
        if number == signal.SIGCHLD:
            self._reap(now)
        elif number == signal.SIGHUP:
            if self._stop_by is None:
                self._log.info("replacing the workers")
                self._replace_asked = True
        elif self._stop_by is None:
            self._stop(now)
        else:
            self._log.warning("cut", why="asked to stop a second time")
            self._cut = True

    def _give_up(self, now: float) -> None:
        """End a service that cannot start; the reason stands on stderr, and nothing else beside it."""
        if self._stop_by is None:
            self._code = _CANNOT_START
            self._stop(now)

    def _stop(self, now: float) -> None:
        limit_s = self._settings.stop_timeout_s
        self._stop_by = now + limit_s
        self._notifier.tell("STOPPING=1")
        self._say("stopping", drain_s=limit_s, workers=self._crew.roster())
        self._public.close()
        for nursery in self._nursing:
            self._dismiss(nursery)
        for worker in self._crew:
            self._crew.retire(worker, limit_s, now)
        if self._controller is not None:
            self._controller.process.terminate()

    def _is_over(self) -> bool:
        return self._cut or (self._stop_by is not None and not len(self._crew) and self._controller is None)

    def _end_all(self) -> None:
        for worker in self._crew:
            self._crew.kill(worker)
        for inspector in self._inspectors:
            self._inspectors.kill(inspector)
        for child in (self._controller, *self._nursing):
            if child is not None and child.ended is None:
                child.process.kill()
                child.process.wait()
        self._controller = None

    # Children that come and go

    def _begin_controller(self, now: float) -> None:
        self._controller = start_controller(self._programs, self._settings, self._lock.fd, now)
        self._selector.register(self._controller.channel, selectors.EVENT_READ, self._controller)
        self._tell_roster()

    def _begin_current(self, now: float) -> None:
        self._nursing.current = self._begin_nursery(now)

    def _begin_nursery(self, now: float) -> Child:
        child = self._nursing.begin(now)
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        return child

    def _dismiss(self, child: Child) -> None:
        """Close our end of a child's channel; for a nursery that is the order to end."""
        if not child.channel.closed or child.channel.fileno() >= 0:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(child.channel)
            child.channel.close()

    def _reap(self, now: float) -> None:
        children = [child for child in (self._controller, *self._nursing) if child is not None]
        for ended in reap([*children, *self._inspectors.processes()], self._log):
            if isinstance(ended, Inspector):
                self._bury_inspector(ended, now)
            else:
                self._bury(ended, now)

    def _bury_inspector(self, inspector: Inspector, now: float) -> None:
        if not inspector.channel.closed:
            self.hear(inspector.channel, inspector)  # its last words
        self._lose_inspector(inspector, now)
        self._inspectors.forget(inspector)

    def _bury(self, child: Child, now: float) -> None:
        if not child.channel.closed:
            self.hear(child.channel, child)  # its last words
        self._dismiss(child)
        if child is self._controller:
            self._controller = None
            if child.process.returncode == _CANNOT_START and not self._controller_acted:
                self._give_up(now)  # it has said why
            else:
                self._note_end("controller", child, now)
            return
        was_current, was_incoming = child is self._nursing.current, child is self._nursing.incoming
        self._nursing.forget(child)
        if was_incoming:
            status = render_status(child.process.returncode)
            self._log.error("the new nursery failed to start", status=status)
            self._end_replacing("the workers stay as they are")
        elif was_current:
            self._lose_unborn()
            if child.process.returncode == NO_RIGHTS and not len(self._crew):
                self._give_up(now)
            else:
                self._note_end("nursery", child, now)

    def _note_end(self, what: str, child: Child, now: float) -> None:
        if self._stop_by is None:
            self._restarts.note_end(what, now, now - child.started, status=render_status(child.process.returncode))

    def _lose_unborn(self) -> None:
        worker, self._nursing.unborn = self._nursing.unborn, None
        if worker is not None:
            self._lose(worker, time.monotonic())

    def _lose_inspector(self, inspector: Inspector, now: float) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(inspector.channel)
        self._inspectors.lose(inspector, now)

    def _lose(self, worker: Worker, now: float) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.channel)
        self._crew.strike(worker)
        if worker.retires_by is None:
            self._restarts.note_end("worker", now, now - worker.born, worker=worker.number, pid=worker.pid)

    # What the others say

    def _wait(self, alarms: Alarms, now: float) -> None:
        dues = [now + _TICK_S, *self._restarts.dues(now), *self._inspectors.dues(now)]
        if self._notifier.every_s is not None:
            dues.append(now + self._notifier.every_s / 2)
        for key, _ in self._selector.select(0 if alarms else min(dues) - now):
            if isinstance(key.fileobj, LineSocket):
                self.hear(key.fileobj, key.data)

    def hear(self, channel: LineSocket, who: Child | Worker | Inspector) -> None:
        """Take what *who* has said; end it where that cannot be understood, or where it has ended."""
        for message in channel.receive():
            try:
                self._take(who, message)
            except Unreadable as error:
                channel.refuse(str(error))
                break
        if channel.fault:
            self._expel(who, channel.fault)
        if not channel.closed:
            channel.flush()
        elif isinstance(who, Inspector):
            self._lose_inspector(who, time.monotonic())
        elif isinstance(who, Worker):
            self._lose(who, time.monotonic())
        else:
            self._dismiss(who)

    def _expel(self, who: Child | Worker | Inspector, why: str) -> None:
        """Kill what says what cannot be understood; it is replaced like one that ended by itself."""
        if isinstance(who, Inspector):
            self._log.error("inspector killed", app=who.app, pid=who.pid, why=f"its message cannot be read: {why}")
            self._inspectors.kill(who)
        elif isinstance(who, Worker):
            self._log.error("worker killed", worker=who.number, pid=who.pid, why=f"its message cannot be read: {why}")
            self._crew.kill(who)
        else:
            what = "controller" if who is self._controller else "nursery"
            self._log.error(f"{what} killed", pid=who.process.pid, why=f"its message cannot be read: {why}")
            who.process.kill()

    def _take(self, who: Child | Worker | Inspector, message: Mapping[str, Any]) -> None:
        if isinstance(who, Inspector):
            self._inspectors.hear(who, parse_child(message), time.monotonic())
        elif isinstance(who, Worker):
            self._hear_worker(who, parse_child(message))
        elif who is self._controller:
            self._hear_controller(who, parse_controller(message))
        else:
            self._hear_nursery(who, parse_nursery(message))

    def _hear_controller(self, controller: Child, message: FromController) -> None:
        if message.ready:
            controller.ready = self._controller_acted = True
        if message.certificates is not None:
            self._nursing.keep(message.certificates)
        if message.wishes is not None:
            self._inspectors.take_wishes(message.wishes)
        inspector = self._inspectors.get(message.kill_inspector) if message.kill_inspector is not None else None
        if inspector is not None:
            why = "the controller asks for it"
            self._log.warning("inspector killed", app=inspector.app, pid=inspector.pid, why=why)
            self._inspectors.kill(inspector)
        worker = self._crew.get(message.kill) if message.kill is not None else None
        if worker is not None:
            self._log.warning("worker killed", worker=worker.number, why="the controller asks for it, and has said why")
            self._crew.kill(worker)

    def _hear_worker(self, worker: Worker, message: FromChild) -> None:
        if message.accepting:
            worker.accepting = True
            self._log.debug("worker accepts", worker=worker.number, pid=worker.pid)
        elif message.level is not None:
            getattr(self._log, message.level)(message.event, worker=worker.number)

    def _hear_nursery(self, nursery: Child, message: FromNursery | None) -> None:
        match message:
            case Loaded():
                nursery.ready = True
                if nursery is self._nursing.incoming and (old := self._nursing.take_over()) is not None:
                    self._lose_unborn()
                    self._dismiss(old)  # it ends; its workers are ours until they have gone
            case Failed(why) if nursery is self._nursing.current and not len(self._crew):
                sys.stderr.write(f"oton: {why}\n")
            case Failed(why):
                self._log.error(why)
            case Born(number, pid):
                self._note_birth(number, pid, nursery)
            case Stillborn(number, why):
                self._nursing.take_born(number)
                self._log.error("no worker could be forked", why=why)
            case Died(pid, status):
                self._log.debug("process ended", pid=pid, status=status)

    def _note_birth(self, number: int, pid: int, nursery: Child) -> None:
        if parent_of(pid) not in (None, nursery.process.pid, os.getpid()):
            raise Unreadable("it names a process that is not its child")  # we would kill it one day, with our rights
        born = self._nursing.take_born(number)
        if born is not None:
            self._crew.note_birth(born, pid)
            self._tell_roster()

    def _tell_roster(self) -> None:
        if self._controller is not None:
            pids = {str(one.number): one.pid for one in self._crew if one.pid is not None}
            roster = {"roster": self._crew.roster(), "pids": pids, "inspectors": self._inspectors.roster()}
            self._controller.channel.send(roster)
