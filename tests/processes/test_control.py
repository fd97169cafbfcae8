"""The controller's end of its channel to the supervisor."""

from __future__ import annotations

import socket
import threading

from controller.control import Control
from controller.wire.lines import LineSocket
from tests.processes.service import until


def test_certificates_of_many_hosts_arrive_though_the_socket_does_not_hold_them_at_once():
    ours, theirs = socket.socketpair()
    gone = threading.Event()
    control = Control(theirs.detach(), on_roster=lambda _: None, on_gone=gone.set)
    thread = threading.Thread(target=control.run, args=(threading.Event(),))
    thread.start()
    supervisor = LineSocket(ours)
    certificates = {f"{number}.test": ("C" * 4000, "K" * 2000) for number in range(1000)}
    control.keep(certificates)
    [message] = until(supervisor.receive, "they did not arrive")
    assert message == {"certificates": {host: list(pair) for host, pair in certificates.items()}}
    supervisor.close()
    thread.join(10)
    control._line.close()
    assert gone.is_set()
