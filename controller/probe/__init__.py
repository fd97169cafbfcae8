"""
Readiness: one thread that asks every replica, by non-blocking sockets, and a verdict on each.

Knows how to ask and what an answer is worth (contract, section 5). Knows nothing of Docker, routes, releases
or files; what it watches is handed in.

    probes   the port that the loop sees, and the thread      board   what an answer is worth, pure
    trial    one question over one connection                 head    the start of an HTTP answer, read strictly
    words    the sentence that a person is shown
"""

from controller.probe.probes import Probes

__all__ = ["Probes"]
