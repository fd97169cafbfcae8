"""
One inspector, from its fork to its end.

It gets its addons from the controller before it listens, tells the supervisor all the time that it lives, and is
killed by it when it does not. Its channel to the supervisor is its lease of life, as a worker's is.

    -> {"retire": seconds}      take nothing new, let what is open end within that time, then go
    <- {"accepting": true}      <- {"alive": true}      <- {"log": level, "event": text}
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop
from mitmproxy import master, options
from mitmproxy.addons import core as mitmproxy_core
from mitmproxy.addons import proxyserver

from controller.kernel import name_process
from controller.proxy.birth import Birth
from controller.proxy.detour import INSPECTOR_SOCKET
from controller.proxy.inspector import layers
from controller.proxy.inspector.addons import AddonErrors, load_addons
from controller.proxy.inspector.desk import Desk
from controller.proxy.inspector.guard import First, Last
from controller.proxy.inspector.record import Recorder, Recording
from controller.proxy.lease import Lease, ToSupervisor
from controller.wire.fields import as_text, as_whole

MEMORY_BYTES = 384 * 1024**2
"""What an inspector may take beyond what the nursery had when it was forked."""

ALIVE_S = 0.4
"""Between two signs of life."""

EXHAUSTED_S = 2.0
"""How long one without memory may take to end what it has open."""

_RESERVE_BYTES = 8 * 1024**2
"""Given back when there is no memory left, so that the end itself does not fail for want of it."""

_EMPTY_S = 0.1
_PAGE_BYTES = resource.getpagesize()


def serve_inspector(birth: Birth, number: int, app: str, channel: socket.socket) -> None:
    """Run the inspector of *app* to its end."""
    name_process(f"oton-inspect-{app}")
    os.close(birth.folder)  # the working directory holds it
    _limit_memory()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Inspector(birth, number, app).run(channel))


def _limit_memory() -> None:
    now, _, _ = read_memory()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, now + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def read_memory() -> tuple[int, int, int]:
    """Return address space, resident and shared bytes of this process."""
    pages = Path("/proc/self/statm").read_text().split()
    return int(pages[0]) * _PAGE_BYTES, int(pages[1]) * _PAGE_BYTES, int(pages[2]) * _PAGE_BYTES


class _Listening:
    """The addon that says when the server is up."""

    def __init__(self, inspector: _Inspector) -> None:
        self._inspector = inspector

    def running(self) -> None:
        self._inspector.listens()


class _Inspector:
    def __init__(self, birth: Birth, number: int, app: str) -> None:
        self._birth = birth
        self._number = number
        self._app = app
        self._addons: asyncio.Future[list[tuple[str, str]]] | None = None
        self._recorder = Recorder()
        self._names: list[str] = []
        self._retired = asyncio.Event()
        self._limit_s = birth.stop_timeout_s
        self._draft = Path(f".draft-{os.getpid()}")
        self._inode = 0
        self._reserve = bytearray(_RESERVE_BYTES)

    async def run(self, channel: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._addons = loop.create_future()
        self._lease = Lease(self.retire, lambda: self.retire(self._birth.stop_timeout_s))
        self._begin_to_log()
        self._desk = Desk({"app": self._app, "number": self._number, "pid": os.getpid()}, self._hear)
        self._desk.on_lost = self._recorder.end_all
        await loop.create_unix_connection(lambda: self._lease, sock=channel)
        loop.add_signal_handler(signal.SIGTERM, self.retire, self._birth.stop_timeout_s)
        tasks = [asyncio.ensure_future(one) for one in (self._desk.run(), self._live())]
        retired = asyncio.ensure_future(self._retired.wait())
        await asyncio.wait((self._addons, retired), return_when=asyncio.FIRST_COMPLETED)
        if self._addons.done():
            await self._serve(self._addons.result())
        for task in (*tasks, retired):
            task.cancel()
        await asyncio.gather(*tasks, retired, return_exceptions=True)

    def retire(self, limit_s: float) -> None:
        """Take nothing new, end what is open within *limit_s*, then go."""
        self._limit_s = limit_s
        self._retired.set()

    def _give_up(self) -> None:
        """End for want of memory: what was taken once does not come back, and a successor has all of it again."""
        if self._reserve:
            self._reserve = bytearray()
            self._desk.tell({"exhausted": MEMORY_BYTES})
            self.retire(EXHAUSTED_S)

    def listens(self) -> None:
        """Be found by the lane, in place of who was found before."""
        self._draft.replace(INSPECTOR_SOCKET)
        self._lease.send({"accepting": True})
        self._desk.tell({"ready": self._names})

    def _begin_to_log(self) -> None:
        root = logging.getLogger()
        root.handlers[:] = [ToSupervisor(self._lease)]
        root.setLevel(logging.WARNING)
        # What flows do is not ours to log, and what addons raise is told by name.
        logging.getLogger("mitmproxy").setLevel(logging.ERROR)

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "addons" in message:
            if self._addons is not None and not self._addons.done():
                self._addons.set_result([(str(name), str(source)) for name, source in message["addons"]])
        elif "capture" in message:
            number, size_bytes = as_whole(message["capture"]), as_whole(message["size"])
            self._record(number, as_text(message.get("filter", "")), size_bytes)
        elif "end" in message:
            self._recorder.end(as_whole(message["end"]))

    def _record(self, number: int, wanted: str, size_bytes: int) -> None:
        try:
            recording = Recording(number, wanted, size_bytes, self._desk.say)
        except ValueError as error:
            self._desk.say({"captured": number, "refused": str(error)})
            return
        self._recorder.begin(recording)
        self._desk.say({"captured": number, "began": True})

    def _tell_trouble(self, addon: str, error: str) -> None:
        self._desk.tell({"trouble": addon, "error": error})

    async def _serve(self, sources: list[tuple[str, str]]) -> None:
        opts = options.Options()
        proxy = master.Master(opts, event_loop=asyncio.get_running_loop())
        servers = proxyserver.Proxyserver()  # type: ignore[no-untyped-call]
        first = First(lambda: bool(self._names))
        proxy.addons.add(mitmproxy_core.Core(), servers, first)  # type: ignore[no-untyped-call]
        opts.update(  # type: ignore[no-untyped-call]
            mode=["inspect"], connection_strategy="lazy", keep_host_header=True, tcp_timeout=7 * 24 * 3600,
            validate_inbound_headers=True, store_streamed_bodies=False, http2=False, http3=False, rawtcp=False,
        )  # fmt: skip
        self._names = load_addons(sources, proxy, self._tell_trouble)
        errors = AddonErrors(self._names, self._tell_trouble, self._give_up)
        for handler in logging.getLogger().handlers:
            handler.addFilter(errors)
        proxy.addons.add(Last(), self._recorder, _Listening(self))  # type: ignore[no-untyped-call]
        check_options(opts)
        layers.listen_on(self._bind())
        running = asyncio.ensure_future(proxy.run())
        retired = asyncio.ensure_future(self._retired.wait())
        await asyncio.wait((running, retired), return_when=asyncio.FIRST_COMPLETED)
        await self._empty()
        proxy.shutdown()  # type: ignore[no-untyped-call]
        await running
        retired.cancel()

    def _bind(self) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            self._draft.unlink()
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(self._draft))
        self._draft.chmod(0o660)  # the folder's group: the workers
        sock.listen(1024)
        sock.setblocking(False)
        self._inode = self._draft.stat().st_ino
        return sock

    async def _empty(self) -> None:
        """Be found no more, and wait until nothing is open or the limit has passed."""
        self._unlink()
        layers.retire()
        ends = asyncio.get_running_loop().time() + self._limit_s
        while layers.count_open() and asyncio.get_running_loop().time() < ends:  # noqa: ASYNC110 - once in its life
            await asyncio.sleep(_EMPTY_S)

    def _unlink(self) -> None:
        place = Path(INSPECTOR_SOCKET)
        with contextlib.suppress(OSError):
            if place.stat().st_ino == self._inode:
                place.unlink()

    async def _live(self) -> None:
        while True:
            self._lease.send({"alive": True})
            await asyncio.sleep(ALIVE_S)


def check_options(opts: options.Options) -> None:
    """Stop where mitmproxy would do what must not reach a client."""
    for name, wanted in (("connection_strategy", "lazy"), ("keep_host_header", True), ("store_streamed_bodies", False)):
        if getattr(opts, name) != wanted:
            raise SystemExit(f"mitmproxy's option {name} must be {wanted}")
    for name in ("block_global", "block_private", "onboarding"):
        if name in opts and getattr(opts, name):
            raise SystemExit(f"mitmproxy's option {name} must be off")
