"""
One proxy worker: mitmproxy's Master with our addon, on an event loop of its own.

It registers at the feed, reads the table, and only then accepts. Its channel to the supervisor is its lease
of life: when that closes, the worker takes no new connections, lets the open ones end, and goes.

    -> {"retire": seconds}      take nothing new, let what is open end within that time, then go
    <- {"accepting": true}      <- {"log": level, "event": text}
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import mmap
import os
import signal
import socket
from collections.abc import Mapping
from typing import Any

import uvloop
from mitmproxy import master, options
from mitmproxy.addons import core as mitmproxy_core
from mitmproxy.addons import next_layer, proxyserver

from controller.kernel import name_process
from controller.proxy.addon import OtonAddon, port_of
from controller.proxy.birth import Birth
from controller.proxy.core import Core, Limits
from controller.proxy.feed import Feed
from controller.proxy.lease import Lease, ToSupervisor
from controller.proxy.logpipe import LogPipe
from controller.seccomp import give_up_processes

_PATIENCE_S = 1.0
"""How long a new worker waits for the controller before it serves from the snapshot."""

_PATIENCE_WITHOUT_S = 10.0
"""The same where there is no snapshot."""

_METER_S = 1.0


def serve_worker(birth: Birth, number: int, channel: socket.socket, certificates: int | None = None) -> None:
    """Run worker *number* to its end; it begins with what the file *certificates* holds."""
    name_process(f"oton-worker-{number}")
    give_up_processes()
    os.close(birth.folder)  # the working directory holds it
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Worker(birth, number).run(channel, certificates))


class _Accepting:
    """A mitmproxy addon that tells when the servers are up."""

    def __init__(self, servers: proxyserver.Proxyserver, core: Core, lease: Lease) -> None:
        self._servers = servers
        self._core = core
        self._lease = lease

    def running(self) -> None:
        if self._core.retiring:
            return
        if not len(self._servers.servers) or not all(one.is_running for one in self._servers.servers):
            raise SystemExit("the proxy's server did not start")
        self._lease.send({"accepting": True})


class _Worker:
    def __init__(self, birth: Birth, number: int) -> None:
        self.birth = birth
        self._number = number
        self._told_to = 0
        """How often the controller had been met at the last report."""
        self._plain, self._tls = ([socket.socket(fileno=fd) for fd in fds] for fds in (birth.plain, birth.tls))

    async def run(self, channel: socket.socket, certificates: int | None) -> None:
        loop = asyncio.get_running_loop()
        self._lease = Lease(self.retire, lambda: self.retire(self.birth.stop_timeout_s))
        self._log = self._begin_to_log()
        self._empty = asyncio.Event()
        self._pipe = None
        if self.birth.access_log is not None:
            self._pipe = LogPipe(self.birth.access_log, loop, self._log.warning)
        self._core = self._make_core()
        self._feed = Feed(
            worker=self._number,
            take=self._core.take,
            take_certificates=self._take_certificates,
            take_covered=self._core.take_covered,
            complain=self._log.warning,
        )
        if certificates is not None:
            self._take_certificates(_read(certificates))
        await loop.create_unix_connection(lambda: self._lease, sock=channel)
        loop.add_signal_handler(signal.SIGTERM, self.retire, self.birth.stop_timeout_s)
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(one) for one in (self._feed.run(), self._meter())]
        waiting = asyncio.ensure_future(self._feed.wait_for_table(_PATIENCE_S, _PATIENCE_WITHOUT_S))
        emptied = asyncio.ensure_future(self._empty.wait())
        tasks += [waiting, emptied]
        await asyncio.wait((waiting, emptied), return_when=asyncio.FIRST_COMPLETED)
        if not self._core.retiring:
            await waiting
            await self._serve(emptied)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def retire(self, limit_s: float) -> None:
        """Take no new connection, let the open ones end within *limit_s*, then end."""
        self._core.retire(limit_s)

    def _take_certificates(self, pems: Mapping[str, Any]) -> None:
        refused = self._core.take_certificates({str(host): (str(pem[0]), str(pem[1])) for host, pem in pems.items()})
        for host, why in refused.items():
            self._log.warning("certificate for %s was rejected: %s", host, why)

    def _begin_to_log(self) -> logging.Logger:
        root = logging.getLogger()
        root.handlers[:] = [ToSupervisor(self._lease)]
        root.setLevel(self.birth.log_level.upper())
        for noisy in ("mitmproxy", "asyncio"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        return logging.getLogger("worker")

    def _make_core(self) -> Core:
        shared = None
        if self.birth.shared is not None:
            shared = memoryview(mmap.mmap(self.birth.shared, 0))
        core = Core(
            Limits(),
            lambda message: self._feed.report(message),  # noqa: PLW0108 - the feed is made after the core
            worker=self._number,
            access_log=self._pipe.write if self._pipe else None,
            shared=shared,
            trusted_proxies=self.birth.trusted_proxies,
            log_query=self.birth.log_query,
            tls_port=port_of(self._tls[0]) if self._tls else None,
        )
        core.on_empty = self._empty.set
        return core

    async def _serve(self, emptied: asyncio.Future[Any]) -> None:
        opts = options.Options()
        proxy = master.Master(opts, event_loop=asyncio.get_running_loop())
        servers = proxyserver.Proxyserver()  # type: ignore[no-untyped-call]
        ours = (OtonAddon(self._core, self._plain, self._tls), _Accepting(servers, self._core, self._lease))
        proxy.addons.add(mitmproxy_core.Core(), servers, next_layer.NextLayer(), *ours)  # type: ignore[no-untyped-call]
        opts.update(mode=["oton"], connection_strategy="lazy", keep_host_header=True)  # type: ignore[no-untyped-call]
        _check_options(opts)
        running = asyncio.ensure_future(proxy.run())
        await asyncio.wait((running, emptied), return_when=asyncio.FIRST_COMPLETED)
        self._meter_once()
        if self._pipe is not None:
            self._pipe.flush()
        proxy.shutdown()  # type: ignore[no-untyped-call]
        await running

    async def _meter(self) -> None:
        while True:
            await asyncio.sleep(_METER_S)
            self._meter_once()

    def _meter_once(self) -> None:
        # Who was met anew knows nothing of what was told before.
        whole, self._told_to = self._told_to != self._feed.meetings, self._feed.meetings
        self._feed.report({"kind": "meters", "counters": self._core.counters(whole=whole)})


def _read(fd: int) -> Any:
    """Return what the file holds, and close it; others share its place in it."""
    try:
        return json.loads(os.pread(fd, os.fstat(fd).st_size, 0) or b"{}")
    finally:
        os.close(fd)


def _check_options(opts: options.Options) -> None:
    """Stop where mitmproxy would do what must never face the public."""
    for name in ("block_global", "block_private", "onboarding"):
        if name in opts and getattr(opts, name):
            raise SystemExit(f"mitmproxy's option {name} must be off")
    with contextlib.suppress(AttributeError):
        if opts.connection_strategy != "lazy" or not opts.keep_host_header:
            raise SystemExit("mitmproxy's options are not as they must be")
