"""
What a person watches or sits in front of: logs, a process inside a replica, a one-off with the app's spec.

Each has a client of its own and can be closed from another thread, which ends its reader.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import docker.errors

from controller.clock import steady_seconds
from controller.engine.calls import BREAKS, OPERATION_S, Calls, TimedClient
from controller.engine.containers import Containers
from controller.engine.reading import read_time
from controller.engine.sight import Sight
from controller.engine.translate import attach_streams
from controller.errors import ControllerError, Refused
from controller.ports import ContainerPlan

LINE_BYTES = 64 * 1024
"""A line longer than this is handed on in pieces."""

_BREAKS = (*BREAKS, ValueError)


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

    def __iter__(self) -> Iterator[LogLine]:
        rest = b""
        try:
            for chunk in self._chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LINE_BYTES:
                    lines, rest = [*lines, rest], b""
                yield from map(_read_line, lines)
        except _BREAKS:
            pass  # closed, or the container is gone
        finally:
            self._client.close()
        if rest:
            yield _read_line(rest)

    def close(self) -> None:
        """End it; safe from any thread, and more than once."""
        with suppress(*_BREAKS, AttributeError):
            self._chunks.close()


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
        self._channel = channel
        self._tty = tty
        self._ask = ask
        self._size = size
        self._done = done
        # The answer's head may have been read together with the first output: read on from the same buffer.
        self._reader: BinaryIO = channel._response.raw._fp.fp  # noqa: SLF001
        self._socket: socket.socket = getattr(channel, "_sock", channel)
        self._socket.settimeout(None)

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield (1, bytes) of standard output and (2, bytes) of standard error until the process ends."""
        with suppress(*_BREAKS):
            while True:
                if self._tty:
                    stream, data = 1, self._reader.read1(LINE_BYTES)  # type: ignore[attr-defined]
                else:
                    head = self._reader.read(8)
                    if len(head) < 8:
                        return
                    stream, data = head[0], self._reader.read(int.from_bytes(head[4:8], "big"))
                if not data:
                    return
                yield stream, data

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
        with suppress(*_BREAKS):
            self._client.close()


class Streams:
    """Opens logs and sessions on our containers."""

    def __init__(self, calls: Calls, sight: Sight, containers: Containers) -> None:
        self._calls = calls
        self._sight = sight
        self._containers = containers

    def logs(self, container: str, *, follow: bool, tail: int | None, since: float | None) -> LogStream:
        """Open the container's output: its last *tail* lines (None: all) from *since* (Unix seconds) on."""
        self._sight.must_be_ours(container)
        with self._calls.doing(f"read the logs of {container[:12]}"):
            client = self._calls.open_client()
            lines: int | Literal["all"] = "all" if tail is None else tail
            chunks = client.logs(container, stream=True, follow=follow, timestamps=True, tail=lines, since=since)
        return LogStream(client, chunks)

    def execute(self, container: str, command: Sequence[str], *, tty: bool) -> Session:
        """Start *command* inside a running replica; raises NotStarted with the exit code a shell would give."""
        self._sight.must_be_ours(container)
        with self._calls.doing(f"run a command in {container[:12]}"):
            client = self._calls.open_client(OPERATION_S)
            made = client.exec_create(container, list(command), stdin=True, tty=tty)["Id"]
            try:
                channel = client.exec_start(made, tty=tty, socket=True)
            except docker.errors.APIError as error:
                raise NotStarted(str(error.explanation or error)) from error
        return Session(
            client,
            channel,
            tty=tty,
            ask=lambda one: one.exec_inspect(made)["ExitCode"],
            size=lambda one, rows, columns: one.exec_resize(made, height=rows, width=columns),
        )

    def run(self, plan: ContainerPlan, *, tty: bool) -> Session:
        """Start a one-off of *plan* (kind run) and attach to it."""
        made = self._containers.create(plan, lambda body: attach_streams(body, tty=tty), f"-{secrets.token_hex(4)}")

        def clean_up() -> None:
            with suppress(ControllerError):
                self._containers.kill(made)
            with suppress(ControllerError):
                self._containers.remove(made)

        try:
            return self._attach(made, tty, clean_up)
        except Refused as error:
            clean_up()
            raise NotStarted(str(error)) from error
        except ControllerError:
            clean_up()
            raise

    def _attach(self, made: str, tty: bool, clean_up: Callable[[], None]) -> Session:
        with self._calls.doing("attach to a one-off"):
            client = self._calls.open_client(OPERATION_S)
            channel = client.attach_socket(made, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            client.start(made)
        return Session(
            client,
            channel,
            tty=tty,
            ask=lambda one: one.wait(made)["StatusCode"],
            size=lambda one, rows, columns: one.resize(made, height=rows, width=columns),
            done=clean_up,
        )


def _read_line(raw: bytes) -> LogLine:
    stamp, _, text = raw.decode("utf-8", "replace").partition(" ")
    return LogLine(read_time(stamp), text.rstrip("\r"))
