"""A replica that fails costs a client nothing that can be saved, and nothing unsafe is ever done twice."""

from dataclasses import replace

import pytest

from controller.proxy.app import Budget
from controller.proxy.limits import Limits
from tests.proxy.rig import Backend, Caller, Lane, Visit, an_app, answer, polite, wait_for


async def closes_when_asked_again(visit: Visit) -> None:
    """Close a kept-alive connection just as the next request goes out."""
    await visit.head()
    await visit.say(answer(visit.backend.name.encode()))
    await visit.head()


async def resets(visit: Visit) -> None:
    await visit.head()
    visit.reset()


def test_a_connection_closed_just_as_a_get_goes_out_costs_no_request(lane: Lane) -> None:
    lane.serve(closes_when_asked_again)
    with Caller(lane.port) as caller:
        assert [caller.get().status for _ in range(30)] == [200] * 30
    assert lane.core.meter.report(whole=True)["events"]


def test_a_post_on_such_a_connection_is_executed_at_most_once(lane: Lane) -> None:
    (backend,) = lane.serve(closes_when_asked_again)
    with Caller(lane.port) as caller:
        for number in range(10):
            caller.get(f"/{number}", method="POST", body=b"x")
    paths = [head.split(b" ")[1] for head in backend.heads]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("PUT", 200), ("POST", 502)])
def test_a_reset_is_retried_elsewhere_only_where_that_is_safe(lane: Lane, method: str, status: int) -> None:
    bad, good = lane.backend(resets, "bad"), lane.backend(polite, "good")
    for _ in range(12):
        lane.take(an_app(bad, good))
        with Caller(lane.port) as caller:
            reply = caller.get(method=method, body=b"x" if method != "GET" else b"")
            assert reply.status in (200, status)
            if bad.heads:
                assert reply.status == status
                return
    raise AssertionError("the bad replica was never asked")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_log_names_the_replica_for_which_a_request_failed(lane: Lane, method: str) -> None:
    lane.serve(resets)
    with Caller(lane.port) as caller:
        assert caller.get(method=method).status == 502
    [entry] = wait_for(lambda: lane.log)
    assert (entry["upstream"], entry["release"], entry["why"]) == ("b0", 1, "reset")


def test_the_log_names_the_replica_that_could_not_be_reached(lane: Lane) -> None:
    lane.take(an_app(Backend("dead", free_port())))
    with Caller(lane.port) as caller:
        assert caller.get().status == 502
    [entry] = wait_for(lambda: lane.log)
    assert entry["upstream"] == "dead"
    assert entry["why"].startswith("connect: ")


def test_a_put_whose_body_is_too_long_to_keep_is_not_retried(lane: Lane) -> None:
    async def reads_and_resets(visit: Visit) -> None:
        await visit.head()
        await visit.exactly(Limits().replay_bytes * 2)
        visit.reset()

    lane.serve(reads_and_resets)
    with Caller(lane.port) as caller:
        assert caller.get(method="PUT", body=b"x" * Limits().replay_bytes * 2).status == 502


def test_a_replica_that_refuses_is_passed_over_set_aside_and_reported(lane: Lane) -> None:
    good = lane.backend(polite, "good")
    dead = Backend("dead", free_port())
    lane.take(an_app(dead, good))
    with Caller(lane.port) as caller:
        assert {caller.get(method=method).status for method in ("GET", "POST") for _ in range(20)} == {200}
    refusals = [report for report in lane.reports if report["kind"] == "refused"]
    assert [(report["app"], report["upstream"]) for report in refusals] == [("shop", "dead")]


def test_the_last_replica_is_never_set_aside(lane: Lane) -> None:
    dead = Backend("dead", free_port())
    lane.take(an_app(dead))
    with Caller(lane.port) as caller:
        assert [caller.get().status for _ in range(3)] == [502] * 3
    assert [report["upstream"] for report in lane.reports] == ["dead"] * 3


def test_a_new_table_takes_a_replica_back(lane: Lane) -> None:
    good = lane.backend(polite, "good")
    late = Backend("late", free_port())
    lane.take(an_app(late, good))
    with Caller(lane.port) as caller:
        wait_for(lambda: caller.get().status == 200 and lane.reports)
        fixed = lane.backend(polite, "late")
        entry = an_app(fixed, good)
        lane.take(entry)
        wait_for(lambda: caller.get().body == b"late")


def test_the_budget_is_a_share_with_a_floor() -> None:
    budget = Budget(Limits())
    taken = sum(budget.take(100.0) for _ in range(50))
    assert taken == 10
    budget.requests = 1000
    assert sum(budget.take(100.5) for _ in range(500)) == 190
    assert sum(budget.take(102.0) for _ in range(500)) == 10


def test_many_resets_do_not_multiply_the_load(lane: Lane) -> None:
    (backend,) = lane.serve(resets)
    with Caller(lane.port) as caller:
        statuses = {caller.get().status for _ in range(100)}
    assert statuses == {502}
    assert len(backend.heads) <= 100 + 40


def test_a_request_in_flight_to_a_dead_replica_is_asked_of_another_at_once(lane: Lane) -> None:
    async def silent(visit: Visit) -> None:
        await visit.head()
        await visit.reader.read()

    stuck = lane.backend(silent, "stuck")
    lane.take(an_app(stuck))
    with Caller(lane.port) as safe, Caller(lane.port) as unsafe:
        safe.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        unsafe.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        wait_for(lambda: len(stuck.heads) == 2)
        good = lane.backend(polite, "good")
        entry = an_app(stuck, good)
        gone = replace(entry.upstreams[0], state="gone")
        lane.take(replace(entry, upstreams=(gone, entry.upstreams[1])))
        assert safe.reply().body == b"good"
        assert unsafe.reply().status == 502


def free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
