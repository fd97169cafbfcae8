"""During a hold a client sees latency, not an error; in maintenance it sees the message."""

import time
from dataclasses import replace

from controller.clock import steady_seconds
from controller.proxy.limits import Limits
from controller.routing.table import Policy, Rule
from tests.proxy.rig import Caller, Lane, Visit, a_lane, an_app, answer, opened, polite, wait_for
from tests.proxy.test_drain import CLOSE_1012, a_socket, echo_frames, events

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def names_path(visit: Visit) -> None:
    while head := await visit.head():
        await visit.say(answer(head.split(b" ")[1]))


def wait_until_held(lane: Lane, count: int) -> None:
    wait_for(lambda: held(lane) == count)


def held(lane: Lane) -> int:
    return sum(row["held"] for row in lane.core.counters()["active"])


def test_held_requests_go_on_in_order_to_the_next_release(lane: Lane) -> None:
    old, new = lane.backend(polite, "old"), lane.backend(names_path, "new")
    lane.take(an_app(old, mode="hold"))
    callers = []
    for number in range(20):
        callers.append(Caller(lane.port))
        callers[-1].send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        wait_until_held(lane, number + 1)
    lane.take(an_app(new))
    assert [caller.reply().body for caller in callers] == [b"/%d" % number for number in range(20)]
    assert old.heads == []
    for caller in callers:
        caller.close()


def test_a_post_with_its_body_waits_too(lane: Lane) -> None:
    new = lane.backend(polite, "new")
    lane.take(an_app(new, mode="hold"))
    body = b"x" * 300_000
    with Caller(lane.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:1000])
        wait_for(lambda: held(lane) == 1)
        caller.send(body[1000:])
        lane.take(an_app(new))
        assert caller.reply().body == b"new"
    assert new.visits[0].raw.endswith(body)


def test_who_waits_longer_than_the_hold_gets_503_and_retry_after(lane: Lane) -> None:
    lane.take(an_app(lane.backend(), mode="hold", hold_s=0.2))
    with Caller(lane.port) as caller:
        caller.send(GET)
        reply = caller.reply()
        assert reply.status == 503
        assert reply.header("retry-after")
    assert held(lane) == 0


def test_one_more_than_the_cap_gets_503_at_once() -> None:
    with a_lane(Limits(held_requests=2)) as lane:
        lane.take(an_app(lane.backend(), mode="hold"))
        callers = [Caller(lane.port) for _ in range(3)]
        for number, caller in enumerate(callers[:2]):
            caller.send(GET)
            wait_until_held(lane, number + 1)
        callers[2].send(GET)
        assert callers[2].reply().status == 503
        for caller in callers:
            caller.close()


def test_a_client_that_leaves_is_forgotten(lane: Lane) -> None:
    backend = lane.backend()
    lane.take(an_app(backend, mode="hold"))
    with Caller(lane.port) as caller:
        caller.send(GET)
        wait_for(lambda: held(lane) == 1)
    wait_for(lambda: held(lane) == 0)
    lane.take(an_app(backend))
    assert backend.heads == []


def test_a_hold_with_draining_upstreams_ends_streams_and_websockets_at_once(lane: Lane) -> None:
    old = lane.backend(events, "old")
    entry = an_app(old)
    lane.take(entry)
    with Caller(lane.port) as stream:
        stream.send(GET)
        stream.until(b"data: ")
        began = time.monotonic()
        leaving = replace(entry.upstreams[0], state="draining", until=steady_seconds() + 30)
        lane.take(replace(entry, upstreams=(leaving,), mode="hold"))
        assert stream.rest().endswith(b"x\n\n\r\n0\r\n\r\n")
        assert time.monotonic() - began < 2


def test_a_hold_closes_websockets_with_1012(lane: Lane) -> None:
    chat = lane.backend(echo_frames, "chat")
    entry = an_app(chat)
    lane.take(entry)
    with a_socket(lane) as caller:
        leaving = replace(entry.upstreams[0], state="draining", until=steady_seconds() + 30)
        lane.take(replace(entry, upstreams=(leaving,), mode="hold"))
        assert caller.exactly(4) == CLOSE_1012


def test_a_get_on_a_replica_that_dies_during_the_hold_waits_for_the_next(lane: Lane) -> None:
    async def silent(visit: Visit) -> None:
        await visit.head()
        await visit.reader.read()

    old, new = lane.backend(silent, "old"), lane.backend(polite, "new")
    lane.take(an_app(old))
    with Caller(lane.port) as caller:
        caller.send(GET)
        wait_for(lambda: old.heads)
        lane.take(replace(an_app(old, mode="hold"), upstreams=(replace(an_app(old).upstreams[0], state="gone"),)))
        wait_for(lambda: held(lane) == 1)
        lane.take(an_app(new))
        assert caller.reply().body == b"new"


def test_maintenance_answers_503_with_its_message_but_not_the_preview(lane: Lane) -> None:
    live, green = lane.backend(polite, "live"), lane.backend(polite, "green")
    entry = an_app(live, mode="maintenance", message="back at <noon>")
    rules = (Rule(host="shop.example"), Rule(host="preview.example", group="preview"))
    upstreams = (*entry.upstreams, replace(an_app(green).upstreams[0], group="preview"))
    lane.take(replace(entry, rules=rules, upstreams=upstreams))
    with Caller(lane.port) as caller:
        reply = caller.get("/", "Accept: text/html")
        assert (reply.status, reply.header("retry-after")) == (503, "30")
        assert b"back at &lt;noon&gt;" in reply.body
        assert b"back at <noon>" in caller.get().body
        assert caller.get(host="preview.example").body == b"green"


def test_maintenance_cuts_nothing_in_flight(lane: Lane) -> None:
    async def slow(visit: Visit) -> None:
        await visit.head()
        await opened(visit.backend)
        await visit.say(answer(b"late"))

    backend = lane.backend(slow)
    lane.take(an_app(backend))
    with Caller(lane.port) as caller, Caller(lane.port) as other:
        caller.send(GET)
        wait_for(lambda: backend.heads)
        lane.take(an_app(backend, mode="maintenance"))
        assert other.get().status == 503
        backend.gate = True
        assert caller.reply().body == b"late"


def test_a_rule_without_a_ready_replica_answers_503_and_no_rule_404(lane: Lane) -> None:
    lane.take(an_app(host="shop.example"))
    with Caller(lane.port) as caller:
        reply = caller.get()
        assert reply.status == 503
        assert reply.header("retry-after")
        assert caller.get(host="elsewhere").status == 404


def test_preview_upstreams_serve_preview_rules_only(lane: Lane) -> None:
    green = lane.backend(polite, "green")
    rules = (Rule(host="shop.example"), Rule(host="preview.example", group="preview"))
    lane.take(replace(an_app(), rules=rules, upstreams=(replace(an_app(green).upstreams[0], group="preview"),)))
    with Caller(lane.port) as caller:
        assert caller.get().status == 503
        assert caller.get(host="preview.example").status == 200


def test_in_flight_is_bounded_per_app(lane: Lane) -> None:
    async def silent(visit: Visit) -> None:
        await visit.head()
        await visit.reader.read()

    backend = lane.backend(silent)
    lane.take(an_app(backend, policy=Policy(max_in_flight=1)))
    with Caller(lane.port) as first, Caller(lane.port) as second:
        first.send(GET)
        wait_for(lambda: backend.heads)
        reply = second.get()
        assert (reply.status, reply.header("retry-after")) == (429, "1")
        assert second.get().status == 429
    told = [report for report in lane.reports if report["kind"] == "limit"]
    assert told == [{"kind": "limit", "app": "shop", "what": "max_in_flight"}]
