"""What an answer is worth, on values alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.probe import board
from controller.probe.board import Outcome
from controller.world.model import Verdict
from tests.probe.kit import a_target

GOOD = Outcome(True, True, "GET /healthz: 200 OK")
BAD = Outcome(False, True, "GET /healthz: 500")
REFUSED = Outcome(False, False, "GET /healthz: connection refused")


def after(outcomes: str, target=None, now: float = 100.0) -> Verdict:
    """Return the verdict after + (passed), - (failed) and x (refused), one a second from *now*."""
    target = target or a_target()
    verdict = board.first_verdict(target, now)
    for at, mark in enumerate(outcomes):
        verdict = board.judge(verdict, target, {"+": GOOD, "-": BAD, "x": REFUSED}[mark], now + at)
    return verdict


def test_it_is_ready_after_the_asked_number_of_passes_in_a_row():
    target = a_target(passes=3)
    assert not after("++-++", target).ready
    assert after("++-+++", target).ready
    assert after("++", target).passes == 2


def test_it_is_unready_after_the_asked_number_of_failures_in_a_row():
    assert after("+--+--").ready
    fallen = after("+--+---")
    assert (fallen.ready, fallen.ever_ready, fallen.unready_count, fallen.failures) == (False, True, 1, 3)


def test_one_pass_after_a_fall_makes_it_ready_at_once():
    assert after("+---+").ready
    assert after("+---+---+---").unready_count == 3


def test_failures_inside_start_period_do_not_count():
    target = a_target(start_period="10s", started=100.0)
    assert after("-" * 10, target, now=100.0).failures == 0
    assert after("-" * 12, target, now=100.0).failures == 2


def test_it_may_get_ready_inside_start_period():
    assert after("--+", a_target(start_period="10s", started=100.0)).ready


def test_one_that_serves_already_is_taken_as_ready_until_failures_are_reached():
    target = a_target(known_ready=True)
    first = board.first_verdict(target, 5.0)
    assert (first.ready, first.ever_ready, first.accepts) == (True, True, True)
    assert after("--", target).ready
    assert not after("---", target).ready


def test_refused_and_badly_answered_are_told_apart():
    assert after("+---").accepts
    assert not after("+--x").accepts


def test_lack_of_sockets_of_our_own_says_nothing_about_it():
    ready = after("+")
    assert board.judge(ready, a_target(), Outcome(False, False, "not asked", counts=False), 200.0) == ready


def test_a_paused_one_is_unready_at_once():
    paused = board.judge_stopped(after("+++"), 110.0)
    assert (paused.ready, paused.accepts, paused.unready_count, paused.since) == (False, False, 1, 110.0)
    assert board.judge_stopped(paused, 120.0).unready_count == 1


def test_the_engines_word_decides_where_it_checks():
    first = board.first_verdict(a_target(method="engine"), 0.0)
    starting = board.judge_engine(first, a_target(method="engine", verdict="starting"), 1.0)
    healthy = board.judge_engine(starting, a_target(method="engine", verdict="healthy"), 2.0)
    sick = board.judge_engine(healthy, a_target(method="engine", verdict="unhealthy", engine_log="no database"), 3.0)
    assert (starting.ready, healthy.ready, sick.ready) == (False, True, False)
    assert sick.answer == "health check: failed: no database"
    assert sick.failures >= 3
    assert sick.unready_count == 1
    assert board.judge_engine(sick, a_target(method="engine", verdict="unhealthy"), 4.0).unready_count == 1


def test_without_any_probe_it_has_to_run_for_start_period_or_five_seconds():
    target = a_target(method="alive", started=100.0)
    first = board.first_verdict(target, 100.0)
    assert not board.judge_alive(first, target, 104.9).ready
    assert board.judge_alive(first, target, 105.0).ready
    longer = a_target(method="alive", started=100.0, start_period="20s")
    assert not board.judge_alive(first, longer, 119.0).ready
    assert board.judge_alive(first, longer, 120.0).ready


def test_steady_begins_after_thirty_seconds_of_ready_and_ends_with_a_failure():
    target = a_target(interval="1s", steady="10s")
    ready = after("+", target, now=100.0)
    assert board.pause_s(ready, target, 129.0) == 1.0
    assert board.pause_s(ready, target, 130.0) == 10.0
    failing = board.judge(ready, target, BAD, 131.0)
    assert board.pause_s(failing, target, 131.0) == 1.0


def test_only_changes_of_substance_are_news():
    target = a_target()
    never, ready, fallen = after(""), after("+"), after("+---")
    assert board.is_news(never, ready, target)
    assert board.is_news(ready, fallen, target)
    assert board.is_news(after("--"), after("---"), target)
    assert board.is_news(fallen, after("+---x"), target)
    assert not board.is_news(ready, after("++"), target)
    assert not board.is_news(ready, after("+-"), target)
    assert not board.is_news(after("---"), after("----"), target)
    assert board.is_talk(after("-"), after("x"))
    assert not board.is_talk(ready, after("+-"))


@given(st.text(alphabet="+-x", max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_ready_follows_from_the_last_run_of_answers(marks, passes, failures):
    target = a_target(passes=passes, failures=failures)
    verdict = after(marks, target)
    plain = marks.replace("x", "-")
    if plain.endswith("+" * passes):
        assert verdict.ready
    if plain.endswith("-" * failures):
        assert not verdict.ready
    assert verdict.ever_ready == ("+" * passes in plain)
    assert verdict.ready <= verdict.ever_ready
    counts = [after(marks[:n], target).unready_count for n in range(len(marks) + 1)]
    assert counts == sorted(counts)
