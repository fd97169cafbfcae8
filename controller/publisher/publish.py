"""Publishing: one version after the other, to disk first, then to the workers, then confirmed by all of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import structlog

from controller.errors import Retry
from controller.lines import LineSocket, render_line
from controller.publisher.claims import ClaimIndex
from controller.publisher.leaving import Leaving, follow_change
from controller.publisher.meters import add_up, held, keep_growing
from controller.publisher.peers import Peer, Peers
from controller.publisher.snapshot import Snapshot, SnapshotFile
from controller.routing.table import FORMAT, AppRoutes, Table, decode_table, encode_app, encode_table
from controller.world.model import Routing

SOCKET = "feed.sock"
_TICK_S = 0.25
_PENDING_MOST_BYTES = 64 * 1024 * 1024

log = structlog.get_logger("publisher")


def _ignore(_value: object) -> None:
    return None


class Publisher:
    """
    The published table, and the workers that serve from it. Every method is safe to call from any thread.

    *ring* is called with an app's name when its routing changed in a way that a pass could act on. *kill* is
    given a worker that owes its confirmation for too long.
    """

    def __init__(
        self,
        state: Path,
        *,
        ring: Callable[[str], None],
        kill: Callable[[int], None] = _ignore,
        on_refused: Callable[[str], None] = _ignore,
        on_limit: Callable[[Mapping[str, Any]], None] = _ignore,
        sticky_key: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = state / "proxy"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ring, self._kill = ring, kill
        self.on_refused, self.on_limit = on_refused, on_limit
        self._monotonic = monotonic
        self._file = SnapshotFile(self._folder)
        self._publishing = threading.RLock()
        """One publication after the other: held while the snapshot is written."""
        self._lock = threading.RLock()
        """Everything below; held for moments only, so that a slow disk stops no reader."""
        self._peers = Peers()
        self._claims = ClaimIndex()
        self._confirmed: dict[str, AppRoutes] = {}
        self._pending: deque[tuple[int, Mapping[str, AppRoutes | None]]] = deque()
        self._ours: set[str] = set()
        """Apps published by this process: what a worker remembers of them is older."""
        self._known = False
        self._past: dict[str, Any] = {}
        self._certificates: Mapping[str, tuple[str, str]] = {}
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)
        self._start_from(self._file.load() or Snapshot(), sticky_key)

    def _start_from(self, snapshot: Snapshot, sticky_key: str) -> None:
        key = sticky_key or snapshot.table.sticky_key or secrets.token_hex(16)
        self._table = Table(version=snapshot.table.version, apps=dict(snapshot.table.apps), sticky_key=key)
        self._leaving: Leaving = {app: dict(entry) for app, entry in snapshot.leaving.items()}
        for app, routes in sorted(self._table.apps.items()):
            with contextlib.suppress(Exception):
                self._claims.take(self._claims.check({app: routes}))
        self._pending.append((self._table.version, dict(self._table.apps)))

    # What the loop asks

    def publish(self, app: str, routes: AppRoutes | None) -> None:
        """Make *routes* the app's entry; the same as before is success and sends nothing."""
        self.publish_many({app: routes})

    def publish_many(self, changes: Mapping[str, AppRoutes | None]) -> None:
        """
        Make *changes* one version: every worker takes all of them in one step.

        Raises Refused where a host and path belong to another app, Retry where the snapshot cannot be written;
        in both cases nothing has changed.
        """
        with self._publishing:
            before = self._table.apps
            real = {app: routes for app, routes in changes.items() if before.get(app) != routes}
            self._ours.update(changes)
            if real:
                claims = self._claims.check(real)
                self._advance_to(self._table.version + 1, real)
                self._claims.take(claims)

    def routing(self, app: str) -> Routing:
        """
        Return what is published, confirmed and drained for the app.

        Raises Retry until the roster is known and every worker on it has registered after our own start: before
        that, a worker may hold a table that we do not know.
        """
        with self._lock:
            if not self._known:
                raise Retry("the proxy workers have not registered yet")
            return Routing(
                published=self._table.apps.get(app),
                confirmed=self._confirmed.get(app),
                drained=self._drained(app),
                held=sum(held(peer.meters, app) for peer in self._peers),
            )

    def apps(self) -> Collection[str]:
        """Return the names in the published table."""
        return sorted(self._table.apps)

    def table(self) -> Table:
        """Return the published table."""
        return self._table

    def is_current(self) -> bool:
        """Say whether every rostered worker has confirmed what was published last."""
        with self._lock:
            return self._peers.roster is not None and not self._pending

    def workers(self) -> dict[int, int]:
        """Return the version that each live worker has confirmed; -1 where it has not registered."""
        with self._lock:
            return {peer.worker: peer.confirmed for peer in self._peers.rostered()}

    def set_kill(self, kill: Callable[[int], None]) -> None:
        """Hand in what ends a worker, where that is made after us."""
        self._kill = kill

    def counters(self) -> dict[str, Any]:
        """Return the meters of all workers, past ones too, summed."""
        with self._lock:
            return add_up((self._past, *(peer.meters for peer in self._peers)))

    def set_certificates(self, certificates: Mapping[str, tuple[str, str]]) -> None:
        """Hand certificate and key (PEM) by host to every worker, now and whenever one registers; never to disk."""
        with self._lock:
            self._certificates = dict(certificates)
            for peer in self._peers.connected():
                self._send(peer, self._render_certificates())
        self._stir()

    # Publishing

    def _advance_to(self, version: int, changes: Mapping[str, AppRoutes | None]) -> None:
        """With `_publishing` held: write, then push. Raises Retry, and nothing has changed."""
        before = self._table
        apps = {app: routes for app, routes in (dict(before.apps) | changes).items() if routes is not None}
        table = Table(version=version, apps=apps, sticky_key=before.sticky_key)
        leaving = follow_change(self._leaving, changes, before.apps, version)
        self._save(table, leaving)
        line = render_line(
            {
                "format": FORMAT,
                "version": version,
                "base": before.version,
                "sticky_key": table.sticky_key,
                "apps": {app: routes and encode_app(routes) for app, routes in changes.items()},
            }
        )
        with self._lock:
            self._table, self._leaving = table, leaving
            self._pending.append((version, changes))
            for peer in self._peers.connected():
                self._send(peer, line)
                self._expect(peer)
            bells = self._settle()
        self._stir()
        self._ring_all(bells)

    def _save(self, table: Table, leaving: Leaving) -> None:
        try:
            self._file.save(Snapshot(table=table, leaving=leaving))
        except OSError as error:
            raise Retry(f"the route snapshot cannot be written: {error}") from error
        self._file.forget(set(table.apps))

    def _settle(self) -> set[str]:
        """With `_lock` held: move what all workers confirmed; return the apps that this concerns ("" for all)."""
        bells: set[str] = set()
        least = self._peers.least_confirmed(self._table.version)
        while self._pending and self._pending[0][0] <= least:
            for app, routes in self._pending.popleft()[1].items():
                bells.add(app)
                if routes is None:
                    self._confirmed.pop(app, None)
                else:
                    self._confirmed[app] = routes
        if not self._known and self._peers.are_all_synced():
            self._known = True
            bells.add("")
        return bells

    def _drained(self, app: str) -> frozenset[str]:
        if self._peers.roster is None:
            return frozenset()
        peers = self._peers.counted()
        return frozenset(
            upstream
            for upstream, since in self._leaving.get(app, {}).items()
            if all(peer.has_drained(app, upstream, since) for peer in peers)
        )

    def _ring_all(self, bells: Collection[str]) -> None:
        for app in [""] if "" in bells else sorted(bells):
            self._ring(app)

    # The roster

    def set_roster(self, workers: Collection[int]) -> None:
        """Take the live workers as the supervisor sees them; what is confirmed is confirmed by all of these."""
        with self._lock:
            for peer in self._peers.set_roster(workers, self._monotonic()):
                self._past = keep_growing(add_up((self._past, peer.meters)), self._table.apps)
                if peer.line is not None:
                    peer.line.closed = True  # the loop takes it out of its selector first
            bells = self._settle() | set(self._leaving)
        self._stir()
        self._ring_all(bells)

    # The feed

    def run(self, stop: threading.Event) -> None:
        """Serve the feed until *stop* is set."""
        with self._listen() as listener, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ, None)
            selector.register(self._woken, selectors.EVENT_READ, self._woken)
            while not stop.is_set():
                for key, _events in selector.select(_TICK_S):
                    self._serve(selector, listener, key)
                self._look_after(selector)
            for key in tuple(selector.get_map().values()):
                if isinstance(key.fileobj, LineSocket):
                    key.fileobj.close()

    def _serve(self, selector: selectors.BaseSelector, listener: socket.socket, key: selectors.SelectorKey) -> None:
        if key.fileobj is listener:
            with contextlib.suppress(OSError):
                line = LineSocket(listener.accept()[0])
                selector.register(line, selectors.EVENT_READ, _Caller())
        elif key.fileobj is self._woken:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
        elif isinstance(key.fileobj, LineSocket):
            self._hear(key.fileobj, key.data)

    def _hear(self, line: LineSocket, caller: _Caller) -> None:
        with self._lock:
            line.flush()
            messages = line.receive()
        for message in messages:
            try:
                self._take(line, caller, message)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("a worker's message cannot be read", error=repr(error))
                line.closed = True

    def _take(self, line: LineSocket, caller: _Caller, message: Mapping[str, Any]) -> None:
        if "hello" in message:
            caller.peer = self._register(line, message["hello"])
            return
        peer = caller.peer
        if peer is None:
            return
        if "confirm" in message:
            self._note_confirmed(peer, int(message["confirm"]))
        elif "behind" in message:
            with self._lock:
                self._send_whole(peer)
        elif "table" in message:
            self._adopt(peer, decode_table(message["table"]))
        else:
            self._note_report(peer, message)

    def _register(self, line: LineSocket, hello: Mapping[str, Any]) -> Peer:
        with self._lock:
            peer = self._peers.get(int(hello["worker"]))
            if peer.line is not None and peer.line is not line:
                peer.line.closed = True
            peer.line, peer.first, peer.confirmed = line, hello.get("first"), -1
            peer.drained = {(one["app"], one["upstream"]): int(one["version"]) for one in hello.get("drained", ())}
            version = int(hello["version"])
            peer.asked = version > self._table.version
            self._expect(peer)
            if peer.asked:
                self._send(peer, render_line({"send": "table"}))
            elif version == self._table.version and peer.first is not None:
                self._send(peer, render_line({"welcome": version}))
                peer.confirmed, peer.owes_since = version, None
            else:
                self._send_whole(peer)
            if self._certificates and not peer.asked:
                self._send(peer, self._render_certificates())
            bells = self._settle() | set(self._leaving)
        self._ring_all(bells)
        return peer

    def _adopt(self, peer: Peer, theirs: Table) -> None:
        """Go on from a worker's table where ours was lost: dropping what it routes would cut live apps off."""
        with self._publishing:
            if theirs.version > self._table.version:
                log.warning("table taken over from a worker", worker=peer.worker, version=theirs.version)
                changes = {app: routes for app, routes in theirs.apps.items() if app not in self._ours}
                with self._lock:
                    self._table = Table(
                        version=self._table.version, apps=self._table.apps, sticky_key=theirs.sticky_key or self._table.sticky_key
                    )
                # One version beyond theirs: what we published meanwhile, and what they must not keep, is in it.
                self._advance_to(theirs.version + 1, changes)
                for app, routes in sorted(changes.items()):
                    with contextlib.suppress(Exception):
                        self._claims.take(self._claims.check({app: routes}))
        with self._lock:
            peer.asked = False
            if peer.first is None:
                peer.first = theirs.version
            self._send_whole(peer)
            bells = self._settle()
        self._ring_all(bells)

    def _note_confirmed(self, peer: Peer, version: int) -> None:
        with self._lock:
            peer.confirmed = max(peer.confirmed, version)
            peer.first = version if peer.first is None else peer.first
            # Owing more is no reason to be killed for one that keeps answering.
            peer.owes_since = None if peer.confirmed >= self._table.version else self._monotonic()
            bells = self._settle()
        self._ring_all(bells)

    def _note_report(self, peer: Peer, message: Mapping[str, Any]) -> None:
        match message.get("kind"):
            case "drained":
                with self._lock:
                    peer.drained[(message["app"], message["upstream"])] = int(message["version"])
                self._ring(message["app"])
            case "refused":
                self.on_refused(str(message["upstream"]))
            case "limit":
                self.on_limit(message)
            case "meters":
                with self._lock:
                    peer.meters = dict(message.get("counters", {}))

    def _look_after(self, selector: selectors.BaseSelector) -> None:
        now = self._monotonic()
        with self._lock:
            for key in tuple(selector.get_map().values()):
                if isinstance(key.fileobj, LineSocket):
                    self._look_after_line(selector, key.fileobj, key.data, now)
            overdue = self._peers.overdue(now)
        for peer in overdue:
            log.warning("worker owes its confirmation", worker=peer.worker, confirmed=peer.confirmed, wanted=self._table.version)
            self._kill(peer.worker)

    def _look_after_line(self, selector: selectors.BaseSelector, line: LineSocket, caller: _Caller, now: float) -> None:
        if line.closed or line.pending_bytes > _PENDING_MOST_BYTES:
            selector.unregister(line)
            if caller.peer is not None and caller.peer.line is line:
                self._peers.disconnect(caller.peer, now)
            line.close()
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if line.pending_bytes else 0)
        if selector.get_key(line).events != wanted:
            selector.modify(line, wanted, caller)

    def _send_whole(self, peer: Peer) -> None:
        self._send(peer, render_line({**encode_table(self._table), "base": None}))
        self._expect(peer)

    def _expect(self, peer: Peer) -> None:
        if peer.owes_since is None or peer.confirmed < 0:
            peer.owes_since = self._monotonic()

    def _send(self, peer: Peer, line: bytes) -> None:
        if peer.line is not None:
            peer.line.send_bytes(line)

    def _render_certificates(self) -> bytes:
        return render_line({"certificates": {host: list(pair) for host, pair in self._certificates.items()}})

    def _stir(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.send(b"x")

    def _listen(self) -> socket.socket:
        place = self._folder / SOCKET
        with contextlib.suppress(FileNotFoundError):
            place.unlink()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(str(place))
            os.chmod(place, 0o660)  # the folder's group: the workers
            sock.listen(64)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock


class _Caller:
    """Who is at the other end of a connection; None until it has said so."""

    def __init__(self) -> None:
        self.peer: Peer | None = None
