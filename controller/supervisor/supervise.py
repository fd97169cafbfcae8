"""
The supervisor's loop: one thread, one selector.

Whatever happens only wakes it; `_steer` then compares what is with what should be and does the next thing.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from controller.lines import LineSocket
from controller.lock import Lock
from controller.proxy.birth import Birth
from controller.proxy.nursery import NO_RIGHTS, render_status
from controller.settings import Settings
from controller.supervisor.backoff import Backoff
from controller.supervisor.crew import Crew, Worker
from controller.supervisor.notify import Notifier
from controller.supervisor.programs import Child, Programs, start_controller, start_nursery
from controller.supervisor.sockets import Public

_TICK_S = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_CANNOT_START = 2
_LAST_WORDS_S = 1.0
"""What the controller may take beyond the stop timeout before it is killed."""


class Supervisor:
    """Keeps one controller, one nursery and the wanted number of workers alive."""

    def __init__(
        self,
        *,
        settings: Settings,
        programs: Programs,
        lock: Lock,
        public: Public,
        shared: int,
        folder: int,
        notifier: Notifier,
        log: Any,
    ) -> None:
        self._settings = settings
        self._programs = programs
        self._lock = lock
        self._public = public
        self._shared = shared
        self._folder = folder
        self._notifier = notifier
        self._log = log
        self._selector = selectors.DefaultSelector()
        self._crew = Crew(self._tell_roster)
        self._controller: Child | None = None
        self._nursery: Child | None = None
        self._incoming: Child | None = None
        self._generation = 1
        self._replace = False
        self._unborn: Worker | None = None
        self._backoff = {"controller": Backoff(), "nursery": Backoff(), "worker": Backoff()}
        self._signals: list[int] = []
        self._stop_by: float | None = None
        self._code = 0
        self._was_ready = {"controller": False, "service": False}
        self._reloading = False

    def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        with self._listen_to_signals():
            try:
                while not self._is_over():
                    self._steer(time.monotonic())
                    self._wait(time.monotonic())
            finally:
                self._end_all()
        self._log.info("stopped")
        return self._code

    # What should be

    def _steer(self, now: float) -> None:
        self._notifier.alive(now)
        self._obey_signals(now)
        for worker in self._crew.overdue(now):
            self._log.warning("worker killed", worker=worker.number, why="it did not start or end in time")
            self._crew.kill(worker)
        if self._stop_by is not None:
            self._steer_stop(now)
            return
        if self._nursery is None and now >= self._backoff["nursery"].due:
            self._nursery = self._begin_nursery(now)
        if self._controller is None and now >= self._backoff["controller"].due:
            self._begin_controller(now)
        if self._replace and self._incoming is None and not self._is_replacing():
            self._replace = False
            self._incoming = self._begin_nursery(now)
        self._fill_crew(now)
        self._retire_old(now)
        self._say_when_ready()

    def _fill_crew(self, now: float) -> None:
        wanting = self._settings.workers - len(self._crew.serving(self._generation))
        ready = self._nursery is not None and self._nursery.ready
        if wanting <= 0 or not ready or self._unborn is not None or now < self._backoff["worker"].due:
            return
        assert self._nursery is not None
        worker, theirs = self._crew.expect(self._generation, now)
        self._watch(worker.channel, worker)
        self._unborn = worker
        with theirs, contextlib.suppress(OSError):  # a nursery that has gone is seen by its channel
            self._nursery.channel.sock.setblocking(True)
            socket.send_fds(self._nursery.channel.sock, [b'{"fork":%d}\n' % worker.number], [theirs.fileno()])
            self._nursery.channel.sock.setblocking(False)

    def _is_replacing(self) -> bool:
        return any(one.generation != self._generation and one.retires_by is None for one in self._crew)

    def _retire_old(self, now: float) -> None:
        """Old workers go once all the new ones accept, so that somebody accepts at every moment."""
        fresh = [one for one in self._crew.serving(self._generation) if one.accepting]
        if len(fresh) < self._settings.workers:
            return
        for worker in self._crew:
            if worker.generation != self._generation:
                self._crew.retire(worker, self._settings.stop_timeout_s, now)
        if self._reloading and self._incoming is None and not self._replace:
            self._reloading = False
            self._log.info("workers replaced", workers=[one.number for one in fresh])
            self._notifier.tell("READY=1")

    def _say_when_ready(self) -> None:
        if self._was_ready["service"] or self._controller is None or not self._controller.ready:
            return
        if any(worker.accepting for worker in self._crew):
            self._was_ready["service"] = True
            self._log.info("serving", addresses=list(self._public.describe()), workers=self._settings.workers)
            self._notifier.tell("READY=1", f"STATUS=serving {' '.join(self._public.describe())}")

    # Stopping

    def _stop(self, now: float, code: int = 0) -> None:
        self._code = self._code or code
        self._stop_by = now + self._settings.stop_timeout_s
        self._notifier.tell("STOPPING=1")
        self._log.info("stopping", drain_s=self._settings.stop_timeout_s, workers=self._crew.roster())
        self._public.close()
        for nursery in (self._nursery, self._incoming):
            if nursery is not None:
                self._unwatch(nursery.channel)
                nursery.channel.close()
        for worker in self._crew:
            self._crew.retire(worker, self._settings.stop_timeout_s, now)
        if self._controller is not None:
            self._controller.process.terminate()

    def _steer_stop(self, now: float) -> None:
        assert self._stop_by is not None
        if now < self._stop_by + _LAST_WORDS_S:
            return
        for worker in self._crew:
            self._crew.kill(worker)
        if self._controller is not None and self._controller.ended is None:
            self._log.warning("controller killed", why="it did not stop in time")
            self._controller.process.kill()

    def _is_over(self) -> bool:
        if self._stop_by is None:
            return False
        return not len(self._crew) and self._controller is None

    def _end_all(self) -> None:
        for worker in self._crew:
            self._crew.kill(worker)
        for child in (self._controller, self._nursery, self._incoming):
            if child is not None:
                child.process.kill()
                child.process.wait()
        self._notifier.tell("STOPPING=1")

    def _obey_signals(self, now: float) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGCHLD:
                self._reap(now)
            elif number == signal.SIGHUP:
                self._begin_replacing()
            elif self._stop_by is None:
                self._stop(now)
            else:
                self._log.warning("cut", why="told to stop a second time")
                self._end_all()
                os._exit(self._code)

    def _begin_replacing(self) -> None:
        if self._stop_by is None:
            self._log.info("replacing the workers")
            self._notifier.reloading()
            self._replace = self._reloading = True

    # Children that come and go

    def _begin_controller(self, now: float) -> None:
        self._controller = start_controller(self._programs, self._settings, self._lock.fd, now)
        self._watch(self._controller.channel, "controller")
        self._tell_roster()

    def _begin_nursery(self, now: float) -> Child:
        log_fd = self._open_access_log()
        ours, theirs = socket.socketpair()
        with theirs:
            birth = self._describe_birth(theirs.fileno(), log_fd)
            inherited = {*birth.plain, *birth.tls, self._shared, self._folder, *([log_fd] if log_fd is not None else [])}
            process = start_nursery(self._programs, birth.render(), theirs, inherited - {sys.__stdout__.fileno()})
        if log_fd is not None and self._settings.access_log != "stdout":
            os.close(log_fd)
        child = Child(process, LineSocket(ours), now)
        self._watch(child.channel, child)
        return child

    def _describe_birth(self, control: int, log_fd: int | None) -> Birth:
        user, settings = self._settings.proxy_user, self._settings
        return Birth(
            control=control,
            plain=tuple(sock.fileno() for sock in self._public.plain),
            tls=tuple(sock.fileno() for sock in self._public.tls),
            shared=self._shared,
            folder=self._folder,
            access_log=log_fd,
            uid=user.uid if user is not None else None,
            gid=user.gid if user is not None else None,
            stop_timeout_s=settings.stop_timeout_s,
            trusted_proxies=settings.trusted_proxies,
            log_query=settings.access_log_query,
            log_level=settings.log_level,
        )

    def _open_access_log(self) -> int | None:
        """Open it anew for each nursery, so that SIGHUP also ends a rotation."""
        where = self._settings.access_log
        if where == "off":
            return None
        try:
            if where == "stdout":
                os.fstat(1)
                return 1
            return os.open(where, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            self._log.error("no access log", file=where, why=error.strerror)
            return None

    def _reap(self, now: float) -> None:
        while True:
            try:
                # Looked at first and reaped by its owner: Popen would never learn how its child ended.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            child = self._child_of(found.si_pid)
            if child is None:
                _, status = os.waitpid(found.si_pid, 0)
                self._note_end(found.si_pid, render_status(os.waitstatus_to_exitcode(status)))
            else:
                child.process.wait()
                self._bury(child, now)

    def _child_of(self, pid: int) -> Child | None:
        for child in (self._controller, self._nursery, self._incoming):
            if child is not None and child.process.pid == pid:
                return child
        return None

    def _bury(self, child: Child, now: float) -> None:
        code = child.process.returncode
        if not child.channel.closed:
            self._hear(child.channel, "controller" if child is self._controller else child)
            self._unwatch(child.channel)
            child.channel.close()
        if child is self._controller:
            self._controller = None
            self._mourn("controller", code, now - child.started, now)
            if code == _CANNOT_START and not self._was_ready["controller"] and self._stop_by is None:
                self._stop(now, _CANNOT_START)
            return
        if child is self._incoming:
            self._incoming = None
            self._log.error("the new nursery failed; the workers stay as they are", status=render_status(code))
            self._reloading = False
            return
        self._nursery = None
        self._lose_unborn()
        self._mourn("nursery", code, now - child.started, now)
        if code == NO_RIGHTS and not len(self._crew) and self._stop_by is None:
            self._stop(now, _CANNOT_START)

    def _lose_unborn(self) -> None:
        worker, self._unborn = self._unborn, None
        if worker is not None and worker.pid is None:
            self._lose(worker)

    def _mourn(self, what: str, code: int, lived_s: float, now: float) -> None:
        if self._stop_by is not None:
            return
        wait_s = self._backoff[what].ended(now, lived_s)
        failures = self._backoff[what].failures
        say = self._log.error if failures > 2 else self._log.warning
        say(f"{what} ended", status=render_status(code), times_in_a_row=failures, starts_again_in_s=wait_s)

    def _lose(self, worker: Worker) -> None:
        self._unwatch(worker.channel)
        self._crew.strike(worker)
        if self._unborn is worker:
            self._unborn = None
        if worker.retires_by is None:
            now = time.monotonic()
            wait_s = self._backoff["worker"].ended(now, now - worker.born)
            self._log.warning("worker lost", worker=worker.number, pid=worker.pid, next_in_s=wait_s)

    def _note_end(self, pid: int, status: str) -> None:
        self._log.debug("process ended", pid=pid, status=status)

    # What the others say

    def _wait(self, now: float) -> None:
        dues = [now + _TICK_S]
        dues += [backoff.due for backoff in self._backoff.values() if backoff.due > now]
        if self._notifier.every_s is not None:
            dues.append(now + self._notifier.every_s / 2)
        for key, events in self._selector.select(0 if self._signals else min(dues) - now):
            if key.data == "wake":
                with contextlib.suppress(BlockingIOError):
                    os.read(key.fd, 4096)
            else:
                self._hear(key.fileobj, key.data)

    def _hear(self, channel: Any, who: Any) -> None:
        channel.flush()
        for message in channel.receive():
            if who == "controller":
                self._hear_controller(message)
            elif isinstance(who, Worker):
                self._hear_worker(who, message)
            else:
                self._hear_nursery(who, message)
        if channel.closed:
            if isinstance(who, Worker):
                self._lose(who)
            else:
                self._unwatch(channel)

    def _hear_controller(self, message: Mapping[str, Any]) -> None:
        if "ready" in message and self._controller is not None:
            self._controller.ready = self._was_ready["controller"] = True
        worker = self._crew.get(int(message["kill"])) if "kill" in message else None
        if worker is not None:
            self._log.warning("worker killed", worker=worker.number, why="it did not confirm the routes in time")
            self._crew.kill(worker)

    def _hear_worker(self, worker: Worker, message: Mapping[str, Any]) -> None:
        if "accepting" in message:
            worker.accepting = True
            self._log.debug("worker accepts", worker=worker.number, pid=worker.pid)
        elif "log" in message:
            say = getattr(self._log, str(message["log"]), self._log.info)
            say(str(message.get("event", "")), worker=worker.number)

    def _hear_nursery(self, nursery: Child, message: Mapping[str, Any]) -> None:
        if "ready" in message:
            nursery.ready = True
            if nursery is self._incoming:
                self._take_over(nursery)
        elif "failed" in message:
            self._log.error(str(message["failed"]))
        elif "died" in message:
            self._note_end(int(message["died"]), str(message.get("status", "")))
        elif "born" in message or "stillborn" in message:
            self._note_birth(message)

    def _note_birth(self, message: Mapping[str, Any]) -> None:
        worker, self._unborn = self._unborn, None
        if worker is None or worker.number not in (message.get("born"), message.get("stillborn")):
            self._unborn = worker
        elif "born" in message:
            worker.pid = int(message["pid"])
        else:
            self._log.error("no worker could be forked", why=str(message.get("why", "")))

    def _take_over(self, nursery: Child) -> None:
        old, self._nursery, self._incoming = self._nursery, nursery, None
        self._generation += 1
        self._lose_unborn()
        if old is not None:
            self._unwatch(old.channel)
            old.channel.close()  # it ends; its workers are ours until they have gone

    def _tell_roster(self) -> None:
        if self._controller is not None:
            self._controller.channel.send({"roster": self._crew.roster()})

    # Plumbing

    def _watch(self, channel: LineSocket, who: object) -> None:
        self._selector.register(channel, selectors.EVENT_READ, who)

    def _unwatch(self, channel: LineSocket) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(channel)

    @contextlib.contextmanager
    def _listen_to_signals(self) -> Any:
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(woken, selectors.EVENT_READ, "wake")
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        before = {number: signal.signal(number, lambda got, _frame: self._signals.append(got)) for number in _SIGNALS}
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(woken)
            os.close(wake)
