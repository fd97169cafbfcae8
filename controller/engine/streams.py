"""
What a person watches or sits in front of: logs, a process inside a replica, a one-off with the app's spec.

Each has a client of its own and can be closed from another thread, which ends its reader.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import docker.errors
import requests

from controller.clock import steady_seconds
from controller.engine import labels
from controller.engine.calls import BREAKS, OPERATION_S, Calls, TimedClient, explain, plain_reason
from controller.engine.containers import Containers
from controller.engine.reading import read_time
from controller.engine.sight import Sight
from controller.engine.translate import attach_streams
from controller.errors import ControllerError, Refused
from controller.ports import ContainerPlan

ORPHAN_S = 60.0
LINE_BYTES = 64 * 1024
"""A line longer than this is handed on in pieces."""

_BREAKS = (*BREAKS, ValueError)
_NOT_RUN = b"OCI runtime exec failed"


class NotStarted(Refused):
    """The command could not be started; *exit_code* is 126 (not executable), 127 (not found) or 125 (else)."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.exit_code = exit_code_of(text)


def exit_code_of(text: str) -> int:
    """Return the shell's exit code for a command that could not be started, by what the engine said."""
    low = text.lower()
    if "permission denied" in low or "exec format error" in low:
        return 126
    if "executable file not found" in low or "no such file or directory" in low:
        return 127
    return 125


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a container's output."""

    wall: float
    """When it was written, Unix seconds."""
    text: str


class LogStream:
    """The output of one container, line by line, until its end or `close`."""

    def __init__(self, client: TimedClient, chunks: Any) -> None:
        self._client = client
        self._chunks = chunks
        self._response: requests.Response = chunks._response  # noqa: SLF001
        self._read_by_somebody = False

    def __iter__(self) -> Iterator[LogLine]:
        rest, self._read_by_somebody = b"", True
        try:
            for chunk in self._chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LINE_BYTES:
                    lines, rest = [*lines, rest], b""
                yield from map(_read_line, lines)
        except _BREAKS:
            pass  # closed, or the container is gone
        finally:
            self._hang_up()
        if rest:
            yield _read_line(rest)

    def close(self) -> None:
        """End it; safe from any thread, and more than once."""
        with suppress(*_BREAKS, AttributeError):
            self._chunks.close()
        if not self._read_by_somebody:
            self._hang_up()

    def _hang_up(self) -> None:
        with suppress(*_BREAKS, AttributeError):
            self._response.close()
            self._client.close()


class Session:
    """A process that a person sits in front of: bytes in, bytes out, an exit code at the end."""

    def __init__(
        self,
        client: TimedClient,
        channel: Any,
        *,
        tty: bool,
        ask: Callable[[TimedClient], int | None],
        size: Callable[[TimedClient, int, int], None],
        done: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._tty = tty
        self._ask = ask
        self._size = size
        self._done = done
        self._failed = ""
        # The answer's head may have been read together with the first output: read on from the same buffer.
        self._response: requests.Response = channel._response  # noqa: SLF001
        self._reader: BinaryIO = self._response.raw._fp.fp  # noqa: SLF001
        self._socket: socket.socket = getattr(channel, "_sock", channel)
        self._socket.settimeout(None)

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield (1, bytes) of standard output and (2, bytes) of standard error until the process ends."""
        is_first = True
        with suppress(*_BREAKS):
            while (frame := self._read_frame()) is not None:
                if is_first and frame[1].startswith(_NOT_RUN):
                    # The engine tells among the output that there was no process, with 126 whatever the reason.
                    self._failed = plain_reason(frame[1].decode("utf-8", "replace"))
                    frame = (2, self._failed.encode() + b"\n")
                is_first = False
                yield frame

    def _read_frame(self) -> tuple[int, bytes] | None:
        if self._tty:
            stream, data = 1, self._reader.read1(LINE_BYTES)  # type: ignore[attr-defined]
        else:
            head = self._reader.read(8)
            if len(head) < 8:
                return None
            stream, data = head[0], self._reader.read(int.from_bytes(head[4:8], "big"))
        return (stream, data) if data else None

    def send(self, data: bytes) -> None:
        """Write to the process's standard input; nothing happens if it has ended."""
        with suppress(OSError):
            self._socket.sendall(data)

    def end_input(self) -> None:
        """Close its standard input."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal the size of the window."""
        self._client.until = steady_seconds() + 2.0
        with suppress(*_BREAKS):
            self._size(self._client, rows, columns)

    def exit_code(self) -> int | None:
        """Return the exit code once it has ended (call it after `frames`); None if it runs on."""
        if self._failed:
            return exit_code_of(self._failed)
        self._client.until = steady_seconds() + OPERATION_S
        try:
            return self._ask(self._client)
        except _BREAKS:
            return None

    def close(self) -> None:
        """Hang up; a one-off is killed if it runs, and removed. Safe from any thread, and more than once."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._done()
        with suppress(*_BREAKS, AttributeError):
            self._response.close()
            self._client.close()


class Streams:
    """Opens logs and sessions on our containers."""

    def __init__(self, calls: Calls, sight: Sight, containers: Containers) -> None:
        self._calls = calls
        self._sight = sight
        self._containers = containers
        self._attended: set[str] = set()
        """One-offs that a session of ours holds."""

    def logs(self, container: str, *, follow: bool, tail: int | None, since: float | None) -> LogStream:
        """Open the container's output: its last *tail* lines (None: all) from *since* (Unix seconds) on."""
        self._sight.must_be_ours(container)
        lines: int | Literal["all"] = "all" if tail is None else tail
        with self._opening(f"read the logs of {container[:12]}") as client:
            chunks = client.logs(container, stream=True, follow=follow, timestamps=True, tail=lines, since=since)
        return LogStream(client, chunks)

    def execute(self, container: str, command: Sequence[str], *, tty: bool) -> Session:
        """Start *command* inside a running replica; raises NotStarted with the exit code a shell would give."""
        self._sight.must_be_ours(container)
        with self._opening(f"run a command in {container[:12]}") as client:
            made = client.exec_create(container, list(command), stdin=True, tty=tty)["Id"]
            try:
                channel = client.exec_start(made, tty=tty, socket=True)
            except docker.errors.APIError as error:
                raise NotStarted(explain(error)) from error
        return Session(
            client,
            channel,
            tty=tty,
            ask=lambda one: _ask_exec(one, made),
            size=lambda one, rows, columns: one.exec_resize(made, height=rows, width=columns),
        )

    def run(self, plan: ContainerPlan, *, tty: bool) -> Session:
        """Start a one-off of *plan* (kind run) and attach to it."""
        made = self._containers.create(plan, lambda body: attach_streams(body, tty=tty), f"-{secrets.token_hex(4)}")
        self._attended.add(made)
        try:
            return self._attach(made, tty)
        except Refused as error:
            self._end_run(made)
            raise NotStarted(str(error)) from error
        except ControllerError:
            self._end_run(made)
            raise

    def sweep(self) -> None:
        """Remove one-offs that nobody sits in front of: an earlier process of ours ended while they ran."""
        with suppress(ControllerError):
            for listed in self._sight.listed():
                is_run = listed["Labels"].get(labels.KIND) == "run"
                is_old = time.time() - listed["Created"] > ORPHAN_S
                if is_run and is_old and listed["Id"] not in self._attended:
                    self._end_run(listed["Id"])

    def _end_run(self, container: str) -> None:
        with suppress(ControllerError):
            self._containers.kill(container)
        with suppress(ControllerError):
            self._containers.remove(container)
        self._attended.discard(container)

    @contextmanager
    def _opening(self, what: str) -> Iterator[TimedClient]:
        with self._calls.doing(what), _closed_on_failure(self._calls.open_client(OPERATION_S)) as client:
            yield client

    def _attach(self, made: str, tty: bool) -> Session:
        with self._containers.starting(made), self._opening("attach to a one-off") as client:
            channel = client.attach_socket(made, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            with _closed_on_failure(channel._response):  # noqa: SLF001
                client.start(made)
        return Session(
            client,
            channel,
            tty=tty,
            ask=lambda one: one.wait(made)["StatusCode"],
            size=lambda one, rows, columns: one.resize(made, height=rows, width=columns),
            done=lambda: self._end_run(made),
        )


@contextmanager
def _closed_on_failure[T: TimedClient | requests.Response](opened: T) -> Iterator[T]:
    """Close what was opened if the block does not come to its end."""
    with ExitStack() as stack:
        stack.callback(opened.close)
        yield opened
        stack.pop_all()


def _ask_exec(client: TimedClient, made: str) -> int | None:
    """Return the exit code; the output ends a moment before the engine has written it down."""
    while True:
        seen = client.exec_inspect(made)
        if not seen["Running"] and seen["ExitCode"] is not None:
            return int(seen["ExitCode"])
        if steady_seconds() > client.until:
            return None
        time.sleep(0.02)


def _read_line(raw: bytes) -> LogLine:
    stamp, _, text = raw.decode("utf-8", "replace").partition(" ")
    return LogLine(read_time(stamp), text.rstrip("\r"))
