"""Through an inspector: what a client gets, and what becomes of it where something fails."""

from __future__ import annotations

from tests.proxy.rig import Caller, Lane


def test_a_request_goes_through_the_inspector_to_the_replica_that_the_lane_chose(lane: Lane) -> None:
    [backend] = lane.serve(inspect=True)
    with Caller(lane.port) as caller:
        for _ in range(3):
            reply = caller.get("/a?b=c", "X-Oton-Upstream: 10.0.0.1:80")
            assert (reply.status, reply.body) == (200, b"b0")
    heads = backend.heads
    assert len(backend.visits) == 3, "a connection to a replica was used twice"
    assert all(head.startswith(b"GET /a?b=c HTTP/1.1\r\n") and b"shop.example" in head for head in heads)
    assert not any(b"oton" in head.lower() for head in heads)
    assert not lane.reports
