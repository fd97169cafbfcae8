"""The port that the loop sees, and the one thread that asks all replicas."""

from __future__ import annotations

import heapq
import itertools
import random
import selectors
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from controller.clock import Clock
from controller.ports import Ring, Target
from controller.probe import board
from controller.probe.board import Outcome
from controller.probe.trial import Trial
from controller.probe.words import render_lost
from controller.world.model import Verdict

TALK_S = 2.0
"""Mere changes of wording about a replica ring at most this often."""
DOUBT_S = 0.1
"""A doubt has a replica asked again at once, but not within this time of the last answer."""
IDLE_S = 0.5
"""Longest sleep of the thread, so that it sees its end."""


@dataclass(eq=False)
class _Watched:
    target: Target
    verdict: Verdict
    trial: Trial
    due: float = 0.0
    deadline: float | None = None
    """Set while a question is under way."""
    doubted: bool = False
    asked: float = float("-inf")
    """When the last question ended."""
    talked: float = field(default=-TALK_S)
    waits: int = 0
    """What the selector waits for on its socket now."""
    registered: socket.socket | None = None
    number: int = -1
    """Its file descriptor: a closed socket does not know it any more."""


class Probes:
    """Implements `ports.Prober`; `run` wants a thread of its own."""

    def __init__(self, ring: Ring, clock: Clock) -> None:
        self._ring = ring
        self._clock = clock
        self._apps: dict[str, dict[str, _Watched]] = {}
        self._where: dict[str, _Watched] = {}
        self._heap: list[tuple[float, int, _Watched]] = []
        self._count = itertools.count()
        self._leavers: list[_Watched] = []
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._wakes, self._waker = socket.socketpair()
        self._wakes.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._wakes, selectors.EVENT_READ)

    # The port.

    def watch(self, app: str, targets: Collection[Target]) -> None:
        """Watch exactly *targets* for this app from now on; unchanged ones keep their verdicts."""
        now = self._now()
        rings = False
        with self._lock:
            old = self._apps.get(app, {})
            new = {}
            for target in targets:
                known = old.get(target.replica)
                before = known.verdict if known else None
                one = new[target.replica] = self._renew(known, target, now) if known else self._begin(target, now)
                rings = rings or (before is not None and board.is_news(before, one.verdict, target))
            for gone in old.keys() - new.keys():
                self._where.pop(gone, None)
                self._leavers.append(old[gone])
            self._where.update(new)
            self._apps[app] = new
            if not new:
                del self._apps[app]
        self._wake()
        if rings:
            self._ring(app)

    def verdicts(self, app: str) -> Mapping[str, Verdict]:
        with self._lock:
            return {replica: one.verdict for replica, one in self._apps.get(app, {}).items()}

    def doubt(self, replica: str) -> None:
        with self._lock:
            one = self._where.get(replica)
            if one is None:
                return
            if one.deadline is not None:
                one.doubted = True  # what is under way was asked before the doubt arose
            else:
                # Workers under load doubt thousands of times a second; a replica is not asked as often.
                self._plan(one, min(one.due, max(self._now(), one.asked + DOUBT_S)))
        self._wake()

    # The thread.

    def run(self, stop: threading.Event) -> None:
        """Ask every replica when its time comes, until *stop* is set."""
        try:
            while not stop.is_set():
                self._turn(IDLE_S)
        finally:
            with self._lock:
                everyone = [*self._where.values(), *self._leavers]
            for one in everyone:
                self._let_go(one)
                one.deadline = None
            self._selector.close()
            self._wakes.close()
            self._waker.close()

    def _turn(self, longest_s: float) -> None:
        """Wait for the next thing to happen, but no longer than *longest_s*, and see to it."""
        ready = self._selector.select(max(0.0, min(longest_s, self._next_due() - self._now())))
        rung: set[str] = set()
        with self._lock:
            for leaver in self._leavers:
                self._let_go(leaver)
            self._leavers.clear()
        for key, _ in ready:
            if key.data is None:
                with suppress(BlockingIOError):
                    self._wakes.recv(4096)
            else:
                self._step(key.data, key.data.trial.advance(), rung)
        self._see_to_due(rung)
        for app in sorted(rung):
            self._ring(app)

    def _next_due(self) -> float:
        with self._lock:
            return self._heap[0][0] if self._heap else float("inf")

    def _see_to_due(self, rung: set[str]) -> None:
        now = self._now()
        while True:
            with self._lock:
                if not self._heap or self._heap[0][0] > now:
                    return
                due, _, one = heapq.heappop(self._heap)
                if self._where.get(one.target.replica) is not one:
                    continue
                moment = one.deadline if one.deadline is not None else one.due
                if moment != due:
                    continue  # planned anew since
            self._come_due(one, rung, now)

    def _come_due(self, one: _Watched, rung: set[str], now: float) -> None:
        if one.deadline is not None:
            self._step(one, one.trial.expire(), rung)
        elif not one.target.running:
            return
        elif one.target.method == "alive":
            self._settle(one, lambda verdict: board.judge_alive(verdict, one.target, now), rung, now)
            if not one.verdict.ready:
                with self._lock:
                    self._plan(one, max(now + IDLE_S, one.target.started + board.alive_s(one.target)))
        elif one.target.method in ("path", "root"):
            with self._lock:
                one.deadline = now + one.target.health.timeout
                self._plan_at(one, one.deadline)
            is_there = one.target.address is not None and one.target.port is not None
            self._step(one, one.trial.begin() if is_there else Outcome(False, False, render_lost(one.target)), rung)

    def _step(self, one: _Watched, outcome: Outcome | None, rung: set[str]) -> None:
        """Take what a step of a trial came to, and wait for what it wants next."""
        if outcome is not None and one.deadline is not None:
            now = self._now()
            self._settle(one, lambda verdict: self._judged(one, verdict, outcome, now), rung, now)
            with self._lock:
                one.deadline, one.asked = None, now
                pause_s = self._pause(one, now)
                self._plan(one, now + (min(pause_s, DOUBT_S) if one.doubted else pause_s))
                one.doubted = False
        self._listen(one)

    def _judged(self, one: _Watched, verdict: Verdict, outcome: Outcome, now: float) -> Verdict:
        # It may have been paused, or have started again elsewhere, while the answer was on its way.
        is_current = one.target.running and one.deadline is not None
        return board.judge(verdict, one.target, outcome, now) if is_current else verdict

    def _settle(self, one: _Watched, change: Callable[[Verdict], Verdict], rung: set[str], now: float) -> None:
        with self._lock:
            old = one.verdict
            new = one.verdict = change(old)
        talks = board.is_talk(old, new) and now - one.talked >= TALK_S
        if talks:
            one.talked = now
        if talks or board.is_news(old, new, one.target):
            rung.add(one.target.app)

    def _pause(self, one: _Watched, now: float) -> float:
        pause = board.pause_s(one.verdict, one.target, now)
        # Thousands that were started together must not be asked together for ever.
        return pause * random.uniform(0.9, 1.0) if pause > 1 else pause  # noqa: S311

    def _listen(self, one: _Watched) -> None:
        """Let the selector wait for what the trial's socket wants."""
        wanted, sock = one.trial.interest, one.trial.socket
        if sock is one.registered and wanted == one.waits:
            return
        if sock is not one.registered:
            self._forget(one)
        if sock is None:
            return
        if one.registered is None:
            one.number = self._selector.register(sock.fileno(), wanted, one).fd
        else:
            self._selector.modify(one.number, wanted, one)
        one.registered, one.waits = sock, wanted

    def _forget(self, one: _Watched) -> None:
        if one.registered is not None:
            with suppress(KeyError, ValueError, OSError):
                self._selector.unregister(one.number)
        one.registered, one.waits, one.number = None, 0, -1

    def _let_go(self, one: _Watched) -> None:
        self._forget(one)
        one.trial.close()

    # Under the lock.

    def _begin(self, target: Target, now: float) -> _Watched:
        one = _Watched(target, board.first_verdict(target, now), Trial(target))
        return self._renew(one, target, now, fresh=True)

    def _renew(self, one: _Watched, target: Target, now: float, *, fresh: bool = False) -> _Watched:
        old, one.target = one.target, target
        if (old.address, old.port) != (target.address, target.port) and target.running:
            # Started again elsewhere: what was true of the old place says nothing of the new one.
            self._leavers.append(_Watched(old, one.verdict, one.trial, registered=one.registered, number=one.number))
            one.trial, one.registered, one.waits, one.number, one.deadline = Trial(target), None, 0, -1, None
            one.verdict = board.start_over(one.verdict, now)
            fresh = True
        one.trial.target = target
        if not target.running:
            one.verdict = board.judge_stopped(one.verdict, now)
        elif target.method == "engine":
            one.verdict = board.judge_engine(one.verdict, target, now)
        elif target.method == "alive":
            one.verdict = board.judge_alive(one.verdict, target, now)
            if not one.verdict.ready:
                self._plan(one, max(now, target.started + board.alive_s(target)))
        elif one.deadline is None and (fresh or not old.running or _asks_otherwise(old, target)):
            self._plan(one, now)
        return one

    def _plan(self, one: _Watched, due: float) -> None:
        one.due = due
        if one.deadline is None:
            self._plan_at(one, due)

    def _plan_at(self, one: _Watched, moment: float) -> None:
        heapq.heappush(self._heap, (moment, next(self._count), one))

    def _wake(self) -> None:
        with suppress(OSError):
            self._waker.send(b"\0")

    def _now(self) -> float:
        return self._clock.now().steady


def _asks_otherwise(old: Target, new: Target) -> bool:
    return (old.health, old.method, old.host, old.https) != (new.health, new.method, new.host, new.https)
