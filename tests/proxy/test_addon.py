"""What the lane relies on in mitmproxy, tried on its real Master in a process of its own."""

import os
import signal
import subprocess
import sys

from tests.proxy.rig import Caller, Lane

PROGRAM = """
import asyncio, socket, sys
import uvloop
from mitmproxy import master, options
from mitmproxy.addons import core, next_layer, proxyserver
from controller.proxy.addon import OtonAddon
from controller.proxy.core import Core, Limits
from controller.routing.table import AppRoutes, Policy, Rule, Table, Upstream

async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    heart = Core(Limits(), print)
    upstream = Upstream(id="u", address="127.0.0.1", port=int(sys.argv[1]), release=1)
    policy = Policy(body_limit_bytes=1024**3)
    heart.take(Table(version=1, apps={"a": AppRoutes(app="a", rules=(Rule(),), upstreams=(upstream,), policy=policy)}))
    opts = options.Options()
    proxy = master.Master(opts, event_loop=asyncio.get_running_loop())
    servers = proxyserver.Proxyserver()
    proxy.addons.add(core.Core(), servers, next_layer.NextLayer(), OtonAddon(heart, [listener]))
    opts.update(mode=["oton"])

    class Up:
        def running(self):
            assert all(one.is_running for one in servers.servers)
            assert servers.listen_addrs() == [listener.getsockname()]
            print(listener.getsockname()[1], flush=True)

    proxy.addons.add(Up())
    asyncio.get_running_loop().add_signal_handler(15, proxy.shutdown)
    await proxy.run()

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
print("ended", flush=True)
"""


def test_the_lane_runs_inside_mitmproxys_master_and_ends_with_it(lane: Lane) -> None:
    backend = lane.backend()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(backend.port)], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with Caller(port) as caller:
            assert [caller.get().body for _ in range(3)] == [b"one"] * 3
        process.send_signal(signal.SIGTERM)
        assert "ended" in process.stdout.read()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
