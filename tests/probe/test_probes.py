"""The prober asks real sockets: every way in which a replica can answer, and what a person is told."""

from __future__ import annotations

import errno
import resource
import socket
import threading
from collections.abc import Iterator

import pytest

from controller.probe import Probes
from controller.probe.probes import DOUBT_S
from controller.probe.trial import render_request
from tests.probe.kit import OK, Asker, HandClock, a_talker, a_target, wait_for

FAST = {"interval": "50ms", "timeout": "300ms"}


@pytest.fixture
def asker() -> Iterator[Asker]:
    made = Asker()
    yield made
    made.close()


def answer(status: str, body: bytes = b"", *, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def told(asker: Asker, say, **fields) -> str:
    """Return the sentence about a replica that answers like this."""
    with a_talker(say) as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, **{**FAST, **fields})])
        wait_for(lambda: asker.verdict().failures or asker.verdict().ready)
        return asker.verdict().answer


def test_a_good_answer_makes_it_ready_and_rings(asker: Asker) -> None:
    with a_talker() as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, **FAST)])
        verdict = wait_for(lambda: asker.verdict().ready and asker.verdict())
        assert (verdict.ever_ready, verdict.accepts, verdict.answer) == (True, True, "GET /healthz: 200 OK")
        wait_for(lambda: "shop" in asker.rung)


def test_the_request_carries_host_and_scheme_and_the_specs_headers() -> None:
    target = a_target(path="/healthz?deep=1", host="shop.example.com", https=True, headers={"X-Probe": "1"})
    lines = render_request(target).decode().split("\r\n")
    assert lines[:2] == ["GET /healthz?deep=1 HTTP/1.1", "Host: shop.example.com"]
    assert "X-Forwarded-Proto: https" in lines
    assert "X-Probe: 1" in lines
    assert lines[-2:] == ["", ""]
    assert "X-Forwarded-Proto" not in render_request(a_target()).decode()


@pytest.mark.parametrize(
    ("say", "fields", "sentence"),
    [
        (
            lambda _: answer("503 Service Unavailable", b"warming  up\n"),
            {},
            'GET /healthz: 503 Service Unavailable: "warming up"',
        ),
        (
            lambda _: answer("500 Oops", b"<html><head><title>No database</title></head><body>x</body></html>"),
            {},
            'GET /healthz: 500 Oops: "No database"',
        ),
        (lambda _: answer("500 Oops", b"<p>It <b>broke</b></p>"), {}, 'GET /healthz: 500 Oops: "It broke"'),
        (lambda _: answer("500 Oops", b"x" * 5000), {}, 'GET /healthz: 500 Oops: "' + "x" * 199 + '…"'),
        (lambda _: answer("500"), {}, "GET /healthz: 500 Internal Server Error"),
        (
            lambda _: (
                b"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno \r\n4\r\ngood\r\n0\r\n\r\n"
            ),
            {},
            'GET /healthz: 502 Bad Gateway: "no good"',
        ),
        (lambda _: answer("404 Not Found", b"nope"), {}, 'GET /healthz: 404 Not Found (allowed: 200-399): "nope"'),
        (
            lambda _: answer("302 Found", headers="Location: /login\r\n"),
            {"status": [200, "204-205"]},
            "GET /healthz: 302 Found to /login (allowed: 200, 204-205; redirects are not followed)",
        ),
        (lambda _: None, {}, "GET /healthz: connection closed without an answer"),
        (lambda _: b"SSH-2.0-x\r\n", {}, 'does not answer with HTTP but with "SSH-2.0-x"'),
        (lambda _: b"\x15\x03\x01\x00\x02\x02\x16", {}, "answers with TLS; the app must speak plain HTTP there"),
        (lambda _: b"", {}, "GET /healthz: no answer within 0.3 s (it accepted the connection)"),
        (lambda _: answer("500 Oops", b"\x1b[31mred\x1b[0m\x00"), {}, '500 Oops: "[31mred [0m"'),
        (lambda _: answer("500 Oops"), {"method": "root"}, "GET /: 500 Oops"),
    ],
)
def test_a_bad_answer_is_told_in_words(asker: Asker, say, fields, sentence) -> None:
    assert sentence in told(asker, say, **fields)
    assert not asker.verdict().ready


def test_a_refused_connection_says_where_the_app_should_listen(asker: Asker) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        asker.probes.watch("shop", [a_target(port=port, **FAST)])
        wait_for(lambda: asker.verdict().failures)
        verdict = asker.verdict()
    assert verdict.answer.startswith(f"GET /healthz: connection refused at 127.0.0.1:{port}")
    assert "0.0.0.0" in verdict.answer
    assert not verdict.accepts


def test_accepting_without_speaking_is_not_ready(asker: Asker) -> None:
    # As a published port does while the app behind it does not listen yet: F31.
    with a_talker(lambda _: None) as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, **FAST)])
        wait_for(lambda: asker.verdict().failures >= 3)
        assert (asker.verdict().ready, asker.verdict().accepts) == (False, False)
        talker.say = lambda _: OK
        wait_for(lambda: asker.verdict().ready)


@pytest.mark.parametrize(("status", "ready"), [("404 Not Found", True), ("302 Found", True), ("500 Oops", False)])
def test_root_is_ready_below_500(asker: Asker, status: str, ready: bool) -> None:
    told(asker, lambda _: answer(status), method="root")
    assert asker.verdict().ready is ready


def test_redirects_are_not_followed(asker: Asker) -> None:
    with a_talker(lambda _: answer("302 Found", headers="Location: /elsewhere\r\n")) as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, **FAST)])
        wait_for(lambda: len(talker.requests) > 2)
        assert {request.split(b" ")[1] for request in talker.requests} == {b"/healthz"}


def test_one_connection_is_used_again_and_again(asker: Asker) -> None:
    with a_talker() as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, **FAST)])
        wait_for(lambda: len(talker.requests) >= 5)
        assert talker.connections == 1


def test_a_kept_connection_that_was_closed_meanwhile_is_no_failure(asker: Asker) -> None:
    with a_talker() as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, failures=1, **FAST)])
        for _ in range(5):
            seen = len(talker.requests)
            wait_for(lambda: len(talker.requests) > seen)  # noqa: B023
            talker.drop()
        seen = len(talker.requests)
        wait_for(lambda: len(talker.requests) > seen)
        assert asker.verdict().unready_count == 0
        assert talker.connections > 1


def test_a_connection_that_closes_just_as_the_question_goes_out_is_no_failure(asker: Asker) -> None:
    with a_talker() as talker:
        talker.once = True
        asker.probes.watch("shop", [a_target(port=talker.port, failures=1, **FAST)])
        wait_for(lambda: talker.connections >= 4)
        assert (asker.verdict().ready, asker.verdict().unready_count) == (True, 0)


def test_a_replica_that_closes_after_each_answer_is_asked_over_new_connections(asker: Asker) -> None:
    with a_talker(lambda _: b"HTTP/1.0 200 OK\r\n\r\nhello") as talker:
        talker.close_after = True
        asker.probes.watch("shop", [a_target(port=talker.port, failures=1, **FAST)])
        wait_for(lambda: len(talker.requests) >= 4)
        assert asker.verdict().unready_count == 0
        assert asker.verdict().ready


def test_an_endless_body_is_ready_and_does_not_grow_in_our_memory(asker: Asker) -> None:
    with a_talker(lambda _: b"HTTP/1.1 200 OK\r\n\r\n" + b"data: x\n\n" * 60_000) as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, **FAST)])
        wait_for(lambda: len(talker.requests) >= 3)
        assert asker.verdict().ready


def test_it_falls_after_failures_in_a_row_and_comes_back(asker: Asker) -> None:
    with a_talker() as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, failures=3, **FAST)])
        wait_for(lambda: asker.verdict().ready)
        talker.say = lambda _: answer("500 Oops")
        fallen = wait_for(lambda: not asker.verdict().ready and asker.verdict())
        assert (fallen.failures, fallen.unready_count, fallen.ever_ready) == (3, 1, True)
        talker.say = lambda _: OK
        wait_for(lambda: asker.verdict().ready)


def test_doubt_asks_at_once_though_the_next_probe_is_far(asker: Asker) -> None:
    with a_talker() as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, interval="60s", failures=1)])
        wait_for(lambda: asker.verdict().ready)
        talker.say = lambda _: answer("500 Oops")
        asker.probes.doubt("r1")
        wait_for(lambda: not asker.verdict().ready)
        asker.probes.doubt("nobody")


def test_a_flood_of_doubts_does_not_become_a_flood_of_questions(asker: Asker) -> None:
    with a_talker() as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, interval="60s")])
        wait_for(lambda: asker.verdict().ready)
        began, asked = asker.clock.now().steady, len(talker.requests)
        while len(talker.requests) < asked + 3:
            asker.probes.doubt("r1")
        took_s = asker.clock.now().steady - began
        assert len(talker.requests) - asked <= took_s / DOUBT_S + 1


def test_one_without_an_address_is_not_ready_and_says_so(asker: Asker) -> None:
    with a_talker() as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, **FAST)])
        wait_for(lambda: asker.verdict().ready)
        asker.probes.watch("shop", [a_target(port=talker.port, address=None, **FAST)])
        wait_for(lambda: asker.verdict().failures)
        assert asker.verdict().answer == "GET /healthz: the container has no address on the replicas' network"
        assert not asker.verdict().ready
        asker.probes.watch("shop", [a_target(port=talker.port, **FAST)])
        wait_for(lambda: asker.verdict().ready)


def test_a_doubt_while_a_question_is_under_way_asks_once_more(asker: Asker) -> None:
    may_answer = threading.Event()

    def slowly(_: bytes) -> bytes:
        may_answer.wait(5)
        return OK

    with a_talker(slowly) as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, interval="60s", timeout="5s")])
        wait_for(lambda: talker.requests)
        asker.probes.doubt("r1")
        may_answer.set()
        wait_for(lambda: len(talker.requests) == 2)


def test_a_replica_that_is_not_watched_any_more_is_let_go(asker: Asker) -> None:
    with a_talker() as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, **FAST)])
        wait_for(lambda: asker.verdict().ready)
        asker.probes.watch("shop", [])
        assert asker.probes.verdicts("shop") == {}
        wait_for(lambda: talker.ended == 1)
        seen = len(talker.requests)
        asker.probes.watch("blog", [a_target("r2", app="blog", port=talker.port, **FAST)])
        wait_for(lambda: asker.verdict("r2", "blog").ready)
        wait_for(lambda: len(talker.requests) >= seen + 3)
        assert talker.connections == 2


def test_watching_the_same_again_keeps_the_verdict_and_asks_no_more_often(asker: Asker) -> None:
    with a_talker() as talker:
        target = a_target(port=talker.port, interval="60s")
        asker.probes.watch("shop", [target])
        wait_for(lambda: asker.verdict().ready)
        for _ in range(50):
            asker.probes.watch("shop", [target])
        assert asker.verdict().ready
        asker.probes.watch("shop", [target, a_target("r2", port=talker.port, interval="60s")])
        wait_for(lambda: asker.verdict("r2").ready)
        assert len(talker.requests) == 2


def test_another_address_means_started_anew(asker: Asker) -> None:
    with a_talker() as talker, a_talker(lambda _: answer("503 Busy")) as other:
        asker.probes.watch("shop", [a_target(port=talker.port, **FAST)])
        wait_for(lambda: asker.verdict().ready)
        asker.probes.watch("shop", [a_target(port=other.port, **FAST)])
        assert not asker.verdict().ready
        assert asker.verdict().unready_count == 1
        wait_for(lambda: asker.verdict().failures)


def test_another_health_path_is_asked_at_once_and_keeps_the_verdict(asker: Asker) -> None:
    with a_talker() as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, interval="60s")])
        wait_for(lambda: asker.verdict().ready)
        asker.probes.watch("shop", [a_target(port=talker.port, interval="60s", path="/other")])
        assert asker.verdict().ready
        wait_for(lambda: any(b"/other" in request for request in talker.requests))


def test_a_paused_one_is_unready_at_once_and_asked_again_when_it_runs(asker: Asker) -> None:
    with a_talker() as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, interval="60s")])
        wait_for(lambda: asker.verdict().ready)
        asker.probes.watch("shop", [a_target(port=talker.port, interval="60s", running=False)])
        assert not asker.verdict().ready
        asker.probes.watch("shop", [a_target(port=talker.port, interval="60s")])
        wait_for(lambda: asker.verdict().ready)


def test_one_that_serves_already_stays_ready_and_is_proved_by_probes(asker: Asker) -> None:
    with a_talker(lambda _: answer("500 Oops")) as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, known_ready=True, **FAST)])
        assert asker.verdict().ready
        wait_for(lambda: not asker.verdict().ready)


def test_the_engines_verdict_needs_no_socket(asker: Asker) -> None:
    asker.probes.watch("shop", [a_target(port=None, method="engine", verdict="starting")])
    assert not asker.verdict().ready
    asker.probes.watch("shop", [a_target(port=None, method="engine", verdict="healthy")])
    assert asker.verdict().ready
    assert asker.rung == ["shop"]


def test_alive_gets_ready_when_its_time_has_come(asker: Asker) -> None:
    started = asker.clock.now().steady - 4.8
    asker.probes.watch("shop", [a_target(port=None, method="alive", started=started)])
    assert not asker.verdict().ready
    asker.probes.doubt("r1")
    wait_for(lambda: asker.verdict().ready)
    wait_for(lambda: asker.rung == ["shop"])


def test_time_is_the_clocks_alone() -> None:
    clock, rung = HandClock(), []
    probes = Probes(rung.append, clock)
    with a_talker() as talker:
        probes.watch("shop", [a_target(port=talker.port, interval="1s", steady="10s")])
        for _ in range(200):
            probes._turn(0.05)
            if probes.verdicts("shop")["r1"].ready:
                break
        assert probes.verdicts("shop")["r1"].ready

        def asked_after(seconds: float) -> int:
            before = len(talker.requests)
            clock.steady += seconds
            for _ in range(5):
                probes._turn(0.02)
            return len(talker.requests) - before

        assert asked_after(0.5) == 0
        assert asked_after(0.6) == 1
        clock.steady += 30
        asked_after(0.0)
        assert asked_after(5.0) == 0
        assert asked_after(5.1) == 1
    ended = threading.Event()
    ended.set()
    probes.run(ended)


def test_mere_wording_rings_seldom_and_a_steady_replica_never(asker: Asker) -> None:
    words = iter(range(10_000))
    with a_talker(lambda _: answer("503 Busy", str(next(words)).encode())) as talker, a_talker() as good:
        asker.probes.watch("shop", [a_target(port=talker.port, **FAST)])
        asker.probes.watch("blog", [a_target("r2", app="blog", port=good.port, **FAST)])
        wait_for(lambda: len(talker.requests) >= 15)
        assert asker.rung.count("shop") <= 3  # the first answer, failures reached, one change of wording
        assert asker.rung.count("blog") == 1


def test_hundreds_of_silent_replicas_delay_nobody(asker: Asker) -> None:
    with a_talker(lambda _: b"") as silent, a_talker() as good:
        targets = [a_target(f"s{n}", port=silent.port, timeout="2s") for n in range(200)]
        asker.probes.watch("shop", targets)
        asker.probes.watch("blog", [a_target("r2", app="blog", port=good.port, **FAST)])
        wait_for(lambda: asker.verdict("r2", "blog").ready, within_s=1.5)


def test_running_out_of_descriptors_is_no_verdict_and_passes(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_talker() as talker:
        asker.probes.watch("shop", [a_target(port=talker.port, failures=1, interval="50ms", timeout="300ms")])
        wait_for(lambda: asker.verdict().ready)
        real, refused = socket.socket, []

        def none_left(*args, **kwargs):
            refused.append(args)
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr("controller.probe.trial.socket.socket", none_left)
        talker.drop()
        wait_for(lambda: len(refused) >= 2)
        assert asker.verdict().ready
        monkeypatch.setattr("controller.probe.trial.socket.socket", real)
        seen = len(talker.requests)
        wait_for(lambda: len(talker.requests) > seen)
        assert asker.verdict().ready


def test_two_thousand_replicas_cost_little() -> None:
    """The cost is printed; the bound is wide, for a machine that others use, too."""
    clock, rung = HandClock(), []
    probes = Probes(rung.append, clock)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(2000, (hard if hard > 0 else 65_536) // 3 - 100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, count * 3), hard), hard))
    try:
        with a_talker() as talker:
            probes.watch("shop", [a_target(f"r{n}", port=talker.port, steady="10s") for n in range(count)])
            for _ in range(2000):
                probes._turn(0.01)
                if len(talker.requests) >= count and all(v.ready for v in probes.verdicts("shop").values()):
                    break
            assert all(verdict.ready for verdict in probes.verdicts("shop").values())
            clock.steady += 40
            before = resource.getrusage(resource.RUSAGE_THREAD)
            seen = len(talker.requests)
            for _ in range(3000):
                probes._turn(0.01)
                if len(talker.requests) >= seen + count:
                    break
            after = resource.getrusage(resource.RUSAGE_THREAD)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"{count} probes: {spent:.2f} s of CPU, {spent / count * 1000:.3f} ms each")
            assert spent / count < 0.002
    finally:
        ended = threading.Event()
        ended.set()
        probes.run(ended)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
