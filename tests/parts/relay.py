"""
A scriptable relay, TCP or Unix on either side, to put in front of a replica or of the engine's socket.

    with Relay(target=("127.0.0.1", 8000)) as relay:
        relay.delay_s = 0.2                          # each piece waits, both ways
        relay.lose_reply(rb"^POST /containers/create")    # the next such request goes through, its reply does not
        relay.stall()                                # half-open: connections stay, nothing moves; resume() ends it
        relay.reset_all()                            # every open connection is reset
        relay.refuse = True                          # new ones are reset at once
"""

from __future__ import annotations

import re
import selectors
import socket
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path

Address = tuple[str, int] | Path


class Relay:
    """Passes bytes between clients and *target* until told to misbehave; all switches work at once."""

    def __init__(self, *, target: Address, listen: Address = ("127.0.0.1", 0)) -> None:
        self._target = target
        self._listener = open_listener(listen)
        self.address: Address = listen if isinstance(listen, Path) else self._listener.getsockname()[:2]
        self.delay_s = 0.0
        self.refuse = False
        self.accepted = 0
        self.lost_replies = 0
        self._moving = threading.Event()
        self._moving.set()
        self._doomed: list[re.Pattern[bytes]] = []
        self._pairs: set[Pair] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name="relay", daemon=True)
        self._thread.start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The listening side as DOCKER_HOST would say it."""
        return f"unix://{self.address}" if isinstance(self.address, Path) else "tcp://{}:{}".format(*self.address)

    def lose_reply(self, pattern: bytes) -> None:
        """Let the next request whose bytes match *pattern* through, but reset its connection when the reply comes."""
        with self._lock:
            self._doomed.append(re.compile(pattern, re.MULTILINE))

    def stall(self) -> None:
        """Hold every byte, of new connections too, without closing anything."""
        self._moving.clear()

    def resume(self) -> None:
        """Let bytes move again, those that were held first."""
        self._moving.set()

    def reset_all(self) -> None:
        """Reset every open connection on both sides."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.reset()

    def close(self) -> None:
        """Stop listening and end every connection."""
        self._closed = True
        self._moving.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset_all()
        self._thread.join(5)
        if isinstance(self.address, Path):
            self.address.unlink(missing_ok=True)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.refuse:
                reset(client)
                continue
            threading.Thread(target=self._serve, args=(client,), name="relay-pair", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = connect(self._target)
        except OSError:
            reset(client)
            return
        pair = Pair(self, client, server)
        with self._lock:
            self._pairs.add(pair)
        try:
            pair.run()
        finally:
            with self._lock:
                self._pairs.discard(pair)

    def hold(self) -> None:
        """Wait while stalled, then for the delay."""
        self._moving.wait()
        if self.delay_s:
            time.sleep(self.delay_s)

    def take_doom(self, data: bytes) -> bool:
        """Say whether the reply to *data* is to be lost; each order counts once."""
        with self._lock:
            for pattern in self._doomed:
                if pattern.search(data):
                    self._doomed.remove(pattern)
                    return True
        return False


class Pair:
    """One connection and its other side."""

    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket) -> None:
        self._relay, self._client, self._server = relay, client, server
        self._is_doomed = False

    def run(self) -> None:
        """Pass bytes until both sides have ended."""
        open_sides = {self._client, self._server}
        with selectors.DefaultSelector() as selector:
            for side in open_sides:
                selector.register(side, selectors.EVENT_READ)
            try:
                while open_sides:
                    for key, _ in selector.select():
                        side = key.fileobj
                        assert isinstance(side, socket.socket)
                        if not self._pass_on(side):
                            selector.unregister(side)
                            open_sides.discard(side)
            except (OSError, ValueError):
                self.reset()
            finally:
                self._client.close()
                self._server.close()

    def _pass_on(self, side: socket.socket) -> bool:
        other = self._server if side is self._client else self._client
        data = side.recv(65536)
        self._relay.hold()
        if not data:
            with suppress(OSError):
                other.shutdown(socket.SHUT_WR)
            return False
        if side is self._client:
            self._is_doomed = self._is_doomed or self._relay.take_doom(data)
        elif self._is_doomed:
            self._relay.lost_replies += 1
            raise ConnectionResetError
        other.sendall(data)
        return True

    def reset(self) -> None:
        """Cut both sides so that each sees a reset."""
        for side in (self._client, self._server):
            reset(side)


def open_listener(listen: Address) -> socket.socket:
    if not isinstance(listen, Path):
        return socket.create_server(listen, backlog=512)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(listen))
    listener.listen(512)
    return listener


def connect(target: Address) -> socket.socket:
    if not isinstance(target, Path):
        return socket.create_connection(target, timeout=None)
    side = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    side.connect(str(target))
    return side


def reset(side: socket.socket) -> None:
    """Close so that the peer sees a reset instead of an end (a Unix socket has only an end)."""
    with suppress(OSError):
        if side.family != socket.AF_UNIX:
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Wakes a thread that waits for this socket; closing alone would leave it asleep.
        elif side.fileno() >= 0:
            side.shutdown(socket.SHUT_RDWR)
    side.close()
