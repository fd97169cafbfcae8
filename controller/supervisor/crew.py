"""The workers as the supervisor sees them: by number, each with a channel whose end is the worker's end."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from controller.kernel import hold_process, kill_held
from controller.supervisor.hearing import CHILD_LINE_BYTES
from controller.wire.lines import LineSocket

_START_S = 20.0
"""A worker that does not accept by then is killed; forking takes milliseconds, a busy machine seconds."""

_MARGIN_S = 3.0
"""What a retiring worker may take beyond its limit before it is killed."""


@dataclass(slots=True)
class Worker:
    """One live worker, from the moment its birth was asked for."""

    number: int
    generation: int
    channel: LineSocket
    born: float
    pid: int | None = None
    accepting: bool = False
    retires_by: float | None = None
    """Monotonic seconds at which it is killed if it is still there; None: it is not retiring."""
    killed: bool = False
    process: int | None = None
    """A descriptor of its process, once it is born."""


class Crew:
    """All workers; tells *changed* the roster whenever one comes or goes."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._workers: dict[int, Worker] = {}
        self._numbers = 0

    def __iter__(self) -> Iterator[Worker]:
        return iter(tuple(self._workers.values()))

    def __len__(self) -> int:
        return len(self._workers)

    def roster(self) -> list[int]:
        """Return the numbers of all live workers, retiring ones too."""
        return sorted(self._workers)

    def expect(self, generation: int, now: float) -> tuple[Worker, socket.socket]:
        """Enter a worker on the roster; return it with the end of its channel that it shall inherit."""
        self._numbers += 1
        ours, theirs = socket.socketpair()
        worker = Worker(self._numbers, generation, LineSocket(ours, CHILD_LINE_BYTES), now)
        self._workers[worker.number] = worker
        # On the roster before it is forked: a table that it might read must not count as confirmed without it.
        self._changed()
        return worker, theirs

    def get(self, number: int) -> Worker | None:
        """Return a live worker."""
        return self._workers.get(number)

    def strike(self, worker: Worker) -> None:
        """Take a worker that has ended off the roster."""
        if self._workers.pop(worker.number, None) is not None:
            worker.channel.close()
            if worker.process is not None:
                # One that only closed its end would go on in the world's face, and nobody would know.
                kill_held(worker.process)
                os.close(worker.process)
                worker.process = None
            self._changed()

    def note_birth(self, worker: Worker, pid: int) -> None:
        """Take the number of a worker's process; one that was struck off while it was being born ends at once."""
        worker.pid = pid
        process = hold_process(pid)
        if worker.number in self._workers:
            worker.process = process
            if worker.killed:
                kill_held(process)
        elif process is not None:
            kill_held(process)
            os.close(process)

    def serving(self, generation: int) -> list[Worker]:
        """Return the workers of a generation that are not retiring."""
        return [one for one in self if one.generation == generation and one.retires_by is None]

    def retire(self, worker: Worker, limit_s: float, now: float) -> None:
        """Let a worker finish what it has open within *limit_s* and go."""
        if worker.retires_by is None:
            worker.retires_by = now + limit_s + _MARGIN_S
            worker.channel.send({"retire": limit_s})

    def overdue(self, now: float) -> list[Worker]:
        """Return the workers that should have begun to accept, or have gone, by now."""
        return [
            one
            for one in self
            if not one.killed
            and (
                (one.retires_by is not None and now > one.retires_by)
                or (not one.accepting and now > one.born + _START_S)
            )
        ]

    def kill(self, worker: Worker) -> None:
        """End a worker at once; it leaves the roster when its channel closes."""
        worker.killed = True
        if worker.pid is None:
            worker.channel.send({"retire": 0})
        elif worker.process is not None:
            kill_held(worker.process)
        else:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
