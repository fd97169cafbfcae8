"""Signals as something that a selector waits for."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self


class Alarms:
    """Collects signals while entered; `fileno` is readable when there are some. Main thread only."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = tuple(numbers)
        self._pending: list[int] = []
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._note) for number in self._numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._woken)
        os.close(self._wake)

    def _note(self, number: int, _frame: object) -> None:
        self._pending.append(number)

    def fileno(self) -> int:
        return self._woken

    def __bool__(self) -> bool:
        return bool(self._pending)

    def take(self) -> list[int]:
        """Return the signals since the last call, oldest first."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        found = self._pending[:]
        del self._pending[: len(found)]
        return found
