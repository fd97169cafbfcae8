"""Waiting on a condition, with an end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

LOOK_S = 0.02


def wait_for[T](condition: Callable[[], T], limit_s: float, what: str, look_s: float = LOOK_S) -> T:
    """Return the first true value of *condition*; AssertionError with *what* and its last value after *limit_s*."""
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not so within {limit_s:g} s: {what} (last: {value!r})")
        time.sleep(look_s)


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
