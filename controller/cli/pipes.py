"""
What becomes of us when nobody reads what we print: `oton logs shop | head -1`.

As with any tool in a pipe, that is an end without a word. It must not be taken for trouble with the service,
whose connection breaks with the same error; so writing to a standard stream raises an error of its own.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from controller.cli.trouble import READER_GONE, USAGE, Trouble


class ReaderGone(Exception):
    """Nobody reads our output any more; nothing more can be said."""


class Guarded:
    """A standard stream whose failed writing is `ReaderGone`, or Trouble where the disk behind it is full."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text."""
        with _told():
            return self.stream.write(text)

    def flush(self) -> None:
        """Hand all that was written on."""
        with _told():
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        silence()
        raise Trouble(USAGE, f"the output cannot be written: {error.strerror}") from error


@contextmanager
def guarded() -> Iterator[None]:
    """Have standard output and error guarded while the block runs."""
    open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Guarded(sys.stdout), Guarded(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def unguard() -> None:
    """Give the streams back as they were: a service logs on when the reader of its log has gone."""
    sys.stdout, sys.stderr = (getattr(one, "stream", one) for one in (sys.stdout, sys.stderr))


def open_closed() -> None:
    """Open what was closed when we were started (`>&-`): a connection would else get its number, and our output."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def silence() -> None:
    """Let what is still to be written go nowhere, also what Python writes at its end."""
    for one in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            if not can_write(number := one.fileno()):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def can_write(number: int) -> bool:
    """Say whether a descriptor is no pipe that nobody reads."""
    poll = select.poll()
    poll.register(number, 0)
    return not any(how & select.POLLERR for _, how in poll.poll(0))


def end_with_reader() -> None:
    """
    End this process as soon as nobody reads its standard output, even if there is nothing to print for hours.

    For verbs that only look: they are ended where they stand.
    """
    with suppress(OSError, ValueError):
        number = sys.stdout.fileno()
        kind = os.fstat(number).st_mode
        if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
            threading.Thread(target=_end_with, args=(number,), name="reader", daemon=True).start()


def _end_with(number: int) -> None:
    poll = select.poll()
    poll.register(number, 0)  # that nobody reads is told unasked
    poll.poll()
    os._exit(READER_GONE)
