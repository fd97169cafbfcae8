"""
The lane for the benchmark: mitmproxy's Master with our addon, without the controller, in one process or several.

Access log, meters and every limit are on, as a user has them. Ports, the log file and the table come as arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import mmap
import os
import signal
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import uvloop
from mitmproxy import master, options
from mitmproxy.addons import core as mitmproxy_core
from mitmproxy.addons import next_layer, proxyserver

from controller.proxy.addon import OtonAddon, port_of
from controller.proxy.core import Core, Limits
from controller.proxy.logpipe import LogPipe
from controller.proxy.rates import SLOT_BYTES
from controller.routing.table import AppRoutes, Policy, Rule, Table, Upstream

CHANGE_S = 0.05
SHARED_BYTES = 65536 * SLOT_BYTES


def a_table(backend: int, apps: int, host: str | None) -> Table:
    """One app for *host* (None: any), and *apps* - 1 with a host of their own."""
    upstream = Upstream(id="backend", address="127.0.0.1", port=backend, release=1)
    policy = Policy(https="allow", max_in_flight=100_000)
    names = {"any": host} | {f"app{number}": f"app{number}.example" for number in range(apps - 1)}
    return Table(
        version=1,
        apps={
            name: AppRoutes(app=name, rules=(Rule(host=host),), upstreams=(upstream,), policy=policy)
            for name, host in names.items()
        },
    )


async def change(core: Core, table: Table) -> None:
    """Change one app of the table again and again, as a rollout does."""
    while True:
        await asyncio.sleep(CHANGE_S)
        entry = dataclasses.replace(table.apps["any"], hold_s=float(table.version))
        table = dataclasses.replace(table, version=table.version + 1, apps={**table.apps, "any": entry})
        core.take(table)


async def run(wishes: argparse.Namespace, sockets: list[socket.socket], shared: memoryview, worker: int) -> None:
    loop = asyncio.get_running_loop()
    log = Path(wishes.log).open("ab")  # noqa: ASYNC230, SIM115 - before anything runs, and open to the end
    pipe = LogPipe(log.fileno(), loop, print)
    limits = Limits(connections_per_client=100_000)
    plain, tls = sockets
    port = port_of(tls)
    core = Core(limits, lambda message: None, worker=worker, access_log=pipe.write, shared=shared, tls_port=port)
    table = a_table(wishes.backend, wishes.apps, wishes.host)
    core.take(table)
    core.take_certificates({"localhost": (Path(wishes.cert).read_text(), Path(wishes.key).read_text())})  # noqa: ASYNC240
    opts = options.Options()
    proxy = master.Master(opts, event_loop=loop)
    proxy.addons.add(
        mitmproxy_core.Core(), proxyserver.Proxyserver(), next_layer.NextLayer(), OtonAddon(core, [plain], [tls])
    )
    opts.update(mode=["oton"])
    loop.add_signal_handler(signal.SIGTERM, proxy.shutdown)
    changing = asyncio.ensure_future(change(core, table)) if wishes.changing else None
    await proxy.run()
    if changing is not None:
        changing.cancel()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--port", "--tls-port", "--backend"):
        parser.add_argument(name, type=int, required=True)
    for name in ("--log", "--cert", "--key"):
        parser.add_argument(name, required=True)
    parser.add_argument("--apps", type=int, default=1)
    parser.add_argument("--host")
    parser.add_argument("--changing", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    wishes = parser.parse_args()
    sockets = [socket.create_server(("127.0.0.1", port), backlog=4096) for port in (wishes.port, wishes.tls_port)]
    shared = memoryview(mmap.mmap(-1, SHARED_BYTES))
    gc.collect()
    gc.freeze()  # this, and no io_uring, as the nursery has it
    os.environ["UV_USE_IO_URING"] = "0"
    worker, children = 0, []
    for number in range(1, wishes.workers):
        child = os.fork()
        if not child:
            worker, children = number, []
            break
        children.append(child)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(wishes, sockets, shared, worker))
    finally:
        for child in children:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
