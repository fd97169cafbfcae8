"""The controller's end of the feed: a Unix socket that only the workers' group may open, and who is connected."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import structlog

from controller.errors import ControllerError
from controller.kernel import peer_process
from controller.publisher.peers import Peer
from controller.wire.codec import Unreadable
from controller.wire.lines import LINE_BYTES, LineSocket

SOCKET = "feed.sock"
_TICK_S = 0.25
_UNREAD_MOST_BYTES = 64 * 1024 * 1024

log = structlog.get_logger("publisher")


class Caller:
    """One connection, and who is at its other end once it has said so."""

    def __init__(self, line: LineSocket, pid: int | None = None) -> None:
        self.line = line
        self.pid = pid
        """Its process, by the kernel's word; None where the kernel has no such word."""
        self.peer: Peer | None = None


class Listener(Protocol):
    """
    Who is told what the workers say; called in the server's thread, without the lock.

    `take` raises Unreadable for what it cannot understand: that connection ends, `refuse` is told why, and then `lost`.
    """

    def take(self, caller: Caller, message: Mapping[str, Any]) -> None: ...

    def refuse(self, caller: Caller, why: str) -> None: ...

    def lost(self, caller: Caller) -> None: ...

    def look(self) -> None: ...


class FeedServer:
    """
    Moves lines; what they mean is the listener's matter.

    *lock* guards every line's buffers, since other threads send as well; *mode* is the socket's.
    """

    def __init__(
        self,
        folder: Path,
        lock: threading.RLock,
        listener: Listener,
        *,
        name: str = SOCKET,
        line_bytes: int = LINE_BYTES,
        mode: int = 0o660,
    ) -> None:
        self._mode = mode
        self._place = folder / name
        self._line_bytes = line_bytes
        self._lock = lock
        self._listener = listener
        self._wake: socket.socket | None = None

    def stir(self) -> None:
        """Have the thread look at all lines now."""
        with self._lock, contextlib.suppress(BlockingIOError):
            if self._wake is not None:
                self._wake.send(b"x")

    def run(self, stop: threading.Event) -> None:
        """Serve until *stop* is set."""
        with self._open() as door, self._open_wake() as woken, selectors.DefaultSelector() as selector:
            selector.register(door, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while not stop.is_set():
                for key, _ in selector.select(_TICK_S):
                    if key.fileobj is door:
                        self._welcome(selector, door)
                    elif isinstance(key.data, Caller):
                        self._hear(key.data)
                    else:
                        with contextlib.suppress(BlockingIOError):
                            woken.recv(4096)
                for caller in [key.data for key in selector.get_map().values() if isinstance(key.data, Caller)]:
                    self._tend(selector, caller)
                self._listener.look()
            for key in tuple(selector.get_map().values()):
                if isinstance(key.data, Caller):
                    key.data.line.close()

    def _open(self) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            self._place.unlink()
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(self._place.parent) as folder:
                door.bind(f"{folder}/{self._place.name}")
            self._place.chmod(self._mode)  # the folder's group: the workers
            door.listen(64)
            door.setblocking(False)
        except BaseException:
            door.close()
            raise
        return door

    @contextlib.contextmanager
    def _open_wake(self) -> Iterator[socket.socket]:
        woken, wake = socket.socketpair()
        with woken, wake:
            for end in (woken, wake):
                end.setblocking(False)
            self._wake = wake
            yield woken
            with self._lock:
                self._wake = None

    def _welcome(self, selector: selectors.BaseSelector, door: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock = door.accept()[0]
            line = LineSocket(sock, self._line_bytes)
            selector.register(line, selectors.EVENT_READ, Caller(line, peer_process(sock)))

    def _hear(self, caller: Caller) -> None:
        with self._lock:
            caller.line.flush()
            messages = caller.line.receive()
        for message in messages:
            if caller.line.closed and not caller.line.fault:
                return
            try:
                self._listener.take(caller, message)
            except ControllerError as error:
                log.warning("a worker's message is deferred until the worker is back", why=str(error))
                caller.line.closed = True
            except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
                # Unreadable, or what its reader did not foresee: either way its sender's matter, not the others'.
                caller.line.refuse(str(error) if isinstance(error, Unreadable) else repr(error)[:200])
                return
            if caller.line.pending_bytes > _UNREAD_MOST_BYTES:
                caller.line.refuse("it does not read what it asks for")
                return

    def _tend(self, selector: selectors.BaseSelector, caller: Caller) -> None:
        with self._lock:
            line = caller.line
            if line.pending_bytes > _UNREAD_MOST_BYTES:
                line.refuse("it does not read what it is sent")
            if not line.closed:
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if line.pending_bytes else 0)
                if selector.get_key(line).events != wanted:
                    selector.modify(line, wanted, caller)
                return
            selector.unregister(line)
            line.close()
        if line.fault:
            self._listener.refuse(caller, line.fault)
        self._listener.lost(caller)


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """Yield a name of *folder* that leaves room for a socket's, however deep the folder lies."""
    if sys.platform != "linux":
        yield str(folder)
        return
    held = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{held}"
    finally:
        os.close(held)
