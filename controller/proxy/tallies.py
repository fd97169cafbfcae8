"""
Counts of what is open now (requests of an app, connections of a client), added up over all workers.

They stand in shared memory: a row for each key, a column for each worker. A worker writes its own column only, so
no count is ever lost to a race, and clears the columns of workers that have died. A row in which nothing is open is
free for the next key. Where the neighbourhood of a key is full, the key is counted by this worker alone; and so is
everything by a worker for which there is no column: it sees the others, and disturbs none of them.
"""

from __future__ import annotations

import os
from hashlib import blake2b

COLUMNS = 16
"""Workers that can count at the same time in a piece of memory; in more memory it is so many more for each piece."""

PIECE_BYTES = 1024 * 1024
_NEIGHBOURS = 8
_NONE = -1


def memory_for(workers: int) -> int:
    """Return how many bytes so many workers need: for twice as many while they are replaced, and some to spare."""
    return PIECE_BYTES * -(-(2 * workers + 2) // COLUMNS)


class Tallies:
    """This worker's column of the shared counts; *memory* must be zero at first and the same for all workers."""

    def __init__(self, memory: memoryview, worker: int) -> None:
        self._cells = memory[: len(memory) // 4 * 4].cast("I")
        self._columns = COLUMNS * max(1, len(memory) // PIECE_BYTES)
        self._row = self._columns + 2
        self._rows = (len(self._cells) - self._columns) // self._row
        self._worker = worker
        self._column = self._take_column()

    def find(self, key: str) -> int:
        """Return where *key* is counted, -1 where there is no place for it."""
        digest = blake2b(key.encode(), digest_size=8).digest()
        high, low = int.from_bytes(digest[:4], "big") | 1, int.from_bytes(digest[4:], "big")
        cells, free = self._cells, -1
        for near in range(min(_NEIGHBOURS, self._rows)):
            at = self._columns + (low + near) % self._rows * self._row
            if cells[at] == high and cells[at + 1] == low:
                return at
            if free < 0 and not self.total(at):
                free = at
        if free >= 0:
            cells[free], cells[free + 1] = high, low
        return free

    def set(self, at: int, count: int) -> int:
        """Make *count* this worker's share; return what the others have open."""
        if self._column == _NONE:
            return self.total(at)
        self._cells[at + 2 + self._column] = count
        return self.total(at) - count

    def total(self, at: int) -> int:
        """Return what is open in all."""
        return sum(self._cells[at + 2 : at + 2 + self._columns])

    def sweep(self) -> None:
        """Forget what workers that have died had open, and look for a column if we have none."""
        for column in range(self._columns):
            pid = self._cells[column]
            if pid and column != self._column and not _is_alive(pid):
                self._clear(column)
                self._cells[column] = 0
        # Two that begin at the same moment may take the same one; the later of them keeps it.
        if self._column == _NONE or self._cells[self._column] != os.getpid():
            self._column = self._take_column()

    def _take_column(self) -> int:
        own = os.getpid()
        for near in range(self._columns):
            column = (self._worker + near) % self._columns
            pid = self._cells[column]
            if pid in (0, own) or not _is_alive(pid):
                self._cells[column] = own
                self._clear(column)
                return column
        return _NONE

    def _clear(self, column: int) -> None:
        for row in range(self._rows):
            self._cells[self._columns + row * self._row + 2 + column] = 0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
