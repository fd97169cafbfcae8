"""Publishing: one version after the other, to disk first, then to the workers, then confirmed by all of them."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from controller.errors import Refused, Retry
from controller.plan.claims import Claim
from controller.publisher.claims import ClaimIndex
from controller.publisher.faults import Faults
from controller.publisher.ledger import Changes, Ledger
from controller.publisher.meters import add_up, held, keep_growing, merge_report
from controller.publisher.peers import Peer, Peers
from controller.publisher.reports import (
    LINE_BYTES,
    Behind,
    Confirm,
    Drained,
    Hello,
    Limit,
    Meters,
    PolicyFault,
    Report,
    TheirTable,
    UpstreamRefused,
    parse_report,
)
from controller.publisher.server import Caller, FeedServer
from controller.publisher.snapshot import Snapshot, SnapshotFile
from controller.routing.table import FORMAT, AppRoutes, Table, encode_app, encode_table
from controller.wire.codec import Unreadable, render_line
from controller.world.model import Routing

log = structlog.get_logger("publisher")


def _ignore(_value: object) -> None:
    return None


class Publisher:
    """
    The published table, and the workers that serve from it. Every method is safe to call from any thread.

    *ring* is called with an app's name when its routing changed in a way that a pass could act on, *kill* with
    a worker that owes its confirmation for too long, *on_refused* with the id of an upstream that refused a
    worker, *on_limit* with what a worker says about a broken limit, *on_fault* with an app that workers cannot serve
    and why ("" once they can).
    """

    def __init__(
        self,
        state: Path,
        *,
        ring: Callable[[str], None],
        kill: Callable[[int], None] = _ignore,
        on_refused: Callable[[str], None] = _ignore,
        on_limit: Callable[[Mapping[str, Any]], None] = _ignore,
        on_fault: Callable[[str, str], None] = lambda _app, _why: None,
        sticky_key: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        folder = state / "proxy"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.kill, self.on_refused, self.on_limit, self.on_fault = kill, on_refused, on_limit, on_fault
        self.catch_up: Callable[[], None] = lambda: None
        """Hears what the supervisor has said of the roster so far."""
        self._ring, self._monotonic = ring, monotonic
        self._file = SnapshotFile(folder)
        found = self._file.load()
        snapshot = found or Snapshot()
        self._has_lost_table = found is None
        """Only then is a worker asked for its table: with ours at hand, one that knows better is mistaken, or lies."""
        self._ledger = Ledger(snapshot, sticky_key or snapshot.table.sticky_key or secrets.token_hex(16))
        self._publishing = threading.RLock()
        """One publication after the other: held while the snapshot is written."""
        self._lock = threading.RLock()
        """Everything else; held for moments only, so that a slow disk stops no reader."""
        self._peers = Peers()
        self._server = FeedServer(folder, self._lock, self, line_bytes=LINE_BYTES)
        self._claims = ClaimIndex()
        self._enter_claims(self._ledger.table.apps)
        self._ours: set[str] = set()
        """Apps published by this process: what a worker remembers of them is older."""
        self._known = False
        self._faults = Faults()
        self._past: dict[str, Any] = {}
        self._certificates: Mapping[str, tuple[str, str]] = {}
        self._on_certificates: Callable[[Mapping[str, tuple[str, str]]], None] = _ignore

    # What the loop asks

    def publish(self, app: str, routes: AppRoutes | None) -> None:
        """Make *routes* the app's entry; the same as before is success and sends nothing."""
        self.publish_many({app: routes})

    def publish_many(self, changes: Changes) -> None:
        """
        Make *changes* one version: every worker takes all of them in one step.

        A host and path that another app keeps waits in the entry; what passes between apps passes in this version.
        Raises Refused where a route cannot be read or workers could not serve an entry, Retry where the snapshot
        cannot be written. In all cases nothing has changed.
        """
        with self._publishing:
            # Whoever was born before this may serve from an older snapshot, and has to be waited for.
            self.catch_up()
            before = self._ledger.table.apps
            settled = self._claims.settle(changes, before)
            real = {app: routes for app, routes in settled.items() if before.get(app) != routes}
            self._faults.check({app: routes for app, routes in real.items() if app in changes})
            if real:
                self._advance(self._ledger.table.version + 1, real)
                self._claims.take(real)
            self._ours.update(changes)
            self._faults.published(changes)

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
                published=self._ledger.table.apps.get(app),
                confirmed=self._ledger.confirmed.get(app),
                drained=self._ledger.drained(app, self._peers),
                held=sum(held(peer.meters, app) for peer in self._peers),
            )

    def fault(self, app: str) -> str:
        """Return why the app is not served as it was asked for; "" where it is."""
        with self._lock:
            return self._faults.explain(app, self._peers.rostered())

    def foreign(self, app: str, claims: Collection[Claim]) -> frozenset[Claim]:
        """Return those of *claims* that the app cannot have now."""
        return self._claims.foreign(app, claims)

    def reserve(self, hosts: Mapping[str, str]) -> None:
        """Give each host whole, with every path, to the entry of that name, whether that is published or not."""
        self._claims.reserved = dict(hosts)

    def apps(self) -> Collection[str]:
        """Return the names in the published table."""
        return sorted(self._ledger.table.apps)

    def table(self) -> Table:
        """Return the published table."""
        return self._ledger.table

    # What the doors ask

    def is_current(self) -> bool:
        """Say whether every worker of a known roster has confirmed what was published last."""
        with self._lock:
            return self._peers.roster is not None and self._ledger.is_settled

    def workers(self) -> dict[int, int]:
        """Return the version that each live worker has confirmed; -1 where it has not registered."""
        with self._lock:
            return {peer.worker: peer.confirmed for peer in self._peers.rostered()}

    def processes(self) -> list[int]:
        """Return the processes of the live workers, as far as the supervisor has told them."""
        with self._lock:
            return sorted((self._peers.pids or {}).values())

    def counters(self) -> dict[str, Any]:
        """Return the meters of all workers, past ones too, summed."""
        with self._lock:
            return add_up((self._past, *(peer.meters for peer in self._peers)))

    # What the supervisor and the keyring say

    def set_roster(self, workers: Collection[int], pids: Mapping[int, int] | None = None) -> None:
        """
        Take the live workers as the supervisor sees them; what is confirmed is confirmed by all of these.

        Nobody else may register, and only from the process that *pids* names, unless it names none at all.
        """
        with self._lock:
            for peer in self._peers.set_roster(workers, self._monotonic(), pids):
                self._keep_meters(peer)
                if peer.line is not None:
                    peer.line.closed = True  # the server takes it out of its selector first
            bells = self._settle() | set(self._ledger.leaving)
        self._server.stir()
        self._ring_all(bells)

    def _keep_meters(self, gone: Peer) -> None:
        apps = self._ledger.table.apps
        told = {(row["app"], row["release"]) for peer in self._peers for row in peer.meters.get("requests", ())}
        told |= {(app, one.release) for app, routes in apps.items() for one in routes.upstreams}
        self._past = keep_growing(add_up((self._past, gone.meters)), apps, lambda *release: release in told)

    def set_certificates(self, certificates: Mapping[str, tuple[str, str]]) -> None:
        """Hand certificate and key (PEM) by host to every worker, now and whenever one registers; never to disk."""
        with self._lock:
            self._certificates = dict(certificates)
            for peer in self._peers.connected():
                self._send(peer, self._render_certificates())
        self._server.stir()
        self._on_certificates(certificates)

    def set_covered(self, names: Collection[str]) -> None:
        """Write down which names have a certificate, for workers that start before they can be handed any."""
        try:
            self._file.save_covered(names)
        except OSError as error:
            log.warning("the list of names with a certificate cannot be written", why=str(error))

    def keep_certificates_at(self, keeper: Callable[[Mapping[str, tuple[str, str]]], None]) -> None:
        """Hand *keeper* the certificates in force, now and whenever they change."""
        with self._lock:
            self._on_certificates = keeper
            certificates = self._certificates
        keeper(certificates)

    # What the workers say

    def run(self, stop: threading.Event) -> None:
        """Serve the feed until *stop* is set."""
        self._server.run(stop)

    def take(self, caller: Caller, message: Mapping[str, Any]) -> None:
        """Take one message of a worker. Raises Unreadable."""
        report, peer = parse_report(message), caller.peer
        if isinstance(report, Hello):
            if peer is not None:
                raise Unreadable("it registers twice")
            self._admit(caller, report)
        elif peer is None:
            raise Unreadable("it has not registered")
        else:
            self._take_report(peer, report)

    def _take_report(self, peer: Peer, report: Report | None) -> None:
        match report:
            case Confirm(version, faults):
                self._note_confirmed(peer, version, faults)
            case Behind() if peer.may_be_behind:
                with self._lock:
                    peer.may_be_behind = False
                    self._send_whole(peer)
            case TheirTable(table) if peer.asked:
                self._adopt(peer, table)
            case Drained(app, upstream, version):
                self._note_drained(peer, app, upstream, version)
            case UpstreamRefused(upstream):
                self.on_refused(upstream)
            case Limit(fields):
                self.on_limit(fields)
            case PolicyFault(app, why) if app in self._ledger.table.apps:
                self._faults.failed(app, why)
            case Meters(counters):
                with self._lock:
                    peer.meters = merge_report(peer.meters, counters)

    def refuse(self, caller: Caller, why: str) -> None:
        """Have a worker replaced that said what cannot be understood."""
        if caller.peer is None:
            log.warning("rejected an unknown process on the feed", why=why)
            return
        log.error("a worker's message cannot be read", worker=caller.peer.worker, why=why)
        self.kill(caller.peer.worker)

    def lost(self, caller: Caller) -> None:
        """Note that a connection has ended, and that nothing waits any longer for one that nobody knows."""
        with self._lock:
            if caller.peer is None or caller.peer.line is not caller.line:
                return
            self._peers.disconnect(caller.peer, self._monotonic())
            bells = self._settle()
        self._ring_all(bells)

    def look(self) -> None:
        """Have workers killed that owe an answer for too long."""
        with self._lock:
            overdue = self._peers.overdue(self._monotonic())
        for peer in overdue:
            newest = self._ledger.table.version
            log.warning(
                "a worker has not confirmed the newest table", worker=peer.worker, has=peer.confirmed, newest=newest
            )
            self.kill(peer.worker)

    def _admit(self, caller: Caller, hello: Hello) -> None:
        with self._lock:
            expected = self._peers.is_expected(hello.worker, caller.pid)
        if expected:
            caller.peer = self._register(caller, hello)
        elif expected is None:
            caller.line.closed = True  # the supervisor's word is on its way; the worker comes back
        else:
            raise Unreadable(f"process {caller.pid} is not worker {hello.worker}")

    def _register(self, caller: Caller, hello: Hello) -> Peer:
        with self._lock:
            peer = self._peers.get(hello.worker)
            if peer.line is not None and peer.line is not caller.line:
                peer.line.closed = True  # an older connection of the same worker
            peer.line, peer.first, peer.confirmed = caller.line, hello.first, -1
            peer.drained, peer.may_be_behind = dict(hello.drained), True
            peer.faults = {app: why for app, why in hello.faults.items() if app in self._ledger.table.apps}
            if peer.hellos == 0:
                peer.owes_since = None  # one that comes back again and again without confirming gets no more time
            peer.hellos += 1
            self._bring_up_to_date(peer, hello.version)
            bells = self._settle() | set(self._ledger.leaving)
        self._ring_all(bells)
        self._faults.heard(self._peers, self.on_fault)
        return peer

    def _bring_up_to_date(self, peer: Peer, version: int) -> None:
        peer.expect(0, self._monotonic())
        # Only while we start: later, a worker that claims to know better is wrong, or not ours any more.
        peer.asked = self._has_lost_table and not self._known and version > self._ledger.table.version
        if peer.asked:
            self._send(peer, render_line({"send": "table"}))
            return
        # Ahead of the table: with that a new worker begins to accept, and needs them for the first handshake.
        # Also where there are none: it may have been born with some that are gone.
        self._send(peer, self._render_certificates())
        if version == self._ledger.table.version and peer.first is not None:
            self._send(peer, render_line({"welcome": version}))
            peer.confirmed, peer.owes_since, peer.hellos = version, None, 0
        else:
            self._send_whole(peer)

    def _adopt(self, peer: Peer, theirs: Table) -> None:
        """Go on from a worker's table where ours was lost: dropping what it routes would cut live apps off."""
        with self._publishing:
            if peer.asked and theirs.version > self._ledger.table.version:
                log.warning("took the table over from a worker", worker=peer.worker, version=theirs.version)
                changes = {app: routes for app, routes in theirs.apps.items() if app not in self._ours}
                with self._lock:
                    mine = self._ledger.table
                    self._ledger.table = replace(mine, sticky_key=theirs.sticky_key or mine.sticky_key)
                # One version beyond theirs: it also has what we published meanwhile and they do not know.
                self._advance(theirs.version + 1, changes)
                self._enter_claims(changes)
        with self._lock:
            self._bring_up_to_date(peer, theirs.version)
            bells = self._settle()
        self._ring_all(bells)

    def _note_confirmed(self, peer: Peer, version: int, faults: Mapping[str, str]) -> None:
        if version > self._ledger.table.version:
            raise Unreadable("it confirms what was never published")
        with self._lock:
            peer.faults = {app: why for app, why in faults.items() if app in self._ledger.table.apps}
            peer.confirmed, peer.hellos = max(peer.confirmed, version), 0
            peer.first = version if peer.first is None else peer.first
            # Owing more is no reason to be killed for one that keeps answering.
            peer.owes_since = None if peer.confirmed >= self._ledger.table.version else self._monotonic()
            bells = self._settle()
        self._ring_all(bells)
        self._faults.heard(self._peers, self.on_fault)

    def _note_drained(self, peer: Peer, app: str, upstream: str, version: int) -> None:
        with self._lock:
            if app not in self._ledger.leaving and app not in self._ledger.table.apps:
                return  # long gone; and a name that only a liar knows must not reach the queue
            peer.note_drained(app, upstream, version)
        self._ring(app)

    # Publishing

    def _advance(self, version: int, changes: Changes) -> None:
        """With `_publishing` held: write, then push. Raises Retry, and nothing has changed."""
        base = self._ledger.table.version
        draft = self._ledger.draft(version, changes)
        try:
            self._file.save(draft, changes)
        except OSError as error:
            raise Retry(f"the route snapshot cannot be written: {error}") from error
        line = render_line(_render_change(base, draft.table, changes))
        with self._lock:
            self._ledger.enter(draft, changes)
            for peer in self._peers.connected():
                self._send(peer, line)
                peer.may_be_behind = True
                peer.expect(len(changes), self._monotonic())
            bells = self._settle()
        self._server.stir()
        self._ring_all(bells)

    def _settle(self) -> set[str]:
        """With `_lock` held: note what all workers confirmed; return the apps that this concerns ("" for all)."""
        bells = self._ledger.settle(self._peers.least_confirmed(self._ledger.table.version))
        if gone := bells - self._ledger.leaving.keys() - self._ledger.table.apps.keys():
            self._peers.forget(gone)
        if not self._known and self._peers.are_all_synced():
            self._known = True
            bells.add("")
        return bells

    def _enter_claims(self, apps: Mapping[str, AppRoutes]) -> None:
        for app, routes in sorted(apps.items()):
            with contextlib.suppress(Refused):  # it is published already; that cannot be undone here
                self._claims.take({app: routes})

    def _send_whole(self, peer: Peer) -> None:
        self._send(peer, render_line({**encode_table(self._ledger.table), "base": None}))
        peer.expect(len(self._ledger.table.apps), self._monotonic())

    def _send(self, peer: Peer, line: bytes) -> None:
        if peer.line is not None:
            peer.line.send_bytes(line)

    def _render_certificates(self) -> bytes:
        return render_line({"certificates": {host: list(pair) for host, pair in self._certificates.items()}})

    def _ring_all(self, bells: Collection[str]) -> None:
        for app in [""] if "" in bells else sorted(bells):
            self._ring(app)


def _render_change(base: int, table: Table, changes: Changes) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": table.version,
        "base": base,
        "sticky_key": table.sticky_key,
        "apps": {app: routes and encode_app(routes) for app, routes in changes.items()},
    }
