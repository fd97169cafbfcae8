"""Logs, exec and one-offs on the real engine."""

from __future__ import annotations

import threading
import time

import pytest

from controller.engine import streams as room
from controller.engine.streams import NotStarted
from controller.errors import Stale
from tests.engine.kit import Bench, wait_for

pytestmark = pytest.mark.engine

COUNT = ["sh", "-c", "for n in 1 2 3 4 5; do echo line $n; done; sleep 0.2; echo oops >&2; sleep 3600"]
TICK = ["sh", "-c", "n=0; while true; do n=$((n+1)); echo tick $n; sleep 0.05; done"]


def output(session) -> dict[int, bytes]:
    """Return all that a session prints, by stream."""
    said = {1: b"", 2: b""}
    for stream, data in session.frames():
        said[stream] += data
    return said


def test_logs_come_with_their_times_and_both_streams(bench: Bench) -> None:
    made = bench.engine.start(bench.plan(command=COUNT))
    wait_for(lambda: len(bench.engine.tail(made)) == 6)
    lines = list(bench.engine.logs(made))
    assert [line.text for line in lines] == ["line 1", "line 2", "line 3", "line 4", "line 5", "oops"]
    assert all(abs(line.wall - time.time()) < 60 for line in lines)
    assert [line.text for line in bench.engine.logs(made, tail=2)] == ["line 5", "oops"]
    assert list(bench.engine.logs(made, tail=0)) == []
    assert list(bench.engine.logs(made, since=time.time() + 5)) == []


def test_a_follower_gets_new_lines_and_is_ended_from_another_thread(bench: Bench) -> None:
    made = bench.engine.start(bench.plan(command=TICK))
    stream = bench.engine.logs(made, follow=True)
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.extend(line.text for line in stream))
    thread.start()
    wait_for(lambda: len(bench.engine.tail(made, 100)) > 5)
    stream.close()
    stream.close()
    thread.join(10)
    assert not thread.is_alive()
    assert seen[:2] == ["tick 1", "tick 2"]


def test_a_follower_ends_with_its_container(bench: Bench) -> None:
    made = bench.engine.start(bench.plan(command=["sh", "-c", "echo bye; sleep 0.3"]))
    assert [line.text for line in bench.engine.logs(made, follow=True)] == ["bye"]


def test_a_very_long_line_is_handed_on_in_pieces(bench: Bench) -> None:
    made = bench.engine.start(bench.plan(command=["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo; echo end"]))
    wait_for(lambda: bench.engine.observe(bench.app)[0].state == "exited")
    lines = [line.text for line in bench.engine.logs(made)]
    assert lines[-1] == "end"
    assert sum(text.count("x") for text in lines[:-1]) == 300_000
    assert max(map(len, bench.engine.tail(made))) <= 500


def test_exec_gives_output_and_exit_code(bench: Bench) -> None:
    made = bench.engine.start(bench.plan())
    session = bench.engine.exec_stream(made, ["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert output(session) == {1: b"out\n", 2: b"err\n"}
    assert session.exit_code() == 3
    session.close()
    session.close()


def test_exec_carries_input_until_its_end(bench: Bench) -> None:
    made = bench.engine.start(bench.plan())
    session = bench.engine.exec_stream(made, ["cat"])
    data = b"0123456789abcdef" * 20_000
    writer = threading.Thread(target=lambda: (session.send(data), session.end_input()))
    writer.start()
    assert output(session)[1] == data
    writer.join(5)
    assert session.exit_code() == 0
    session.close()


def test_exec_with_a_terminal_can_be_resized(bench: Bench) -> None:
    made = bench.engine.start(bench.plan())
    session = bench.engine.exec_stream(made, ["sh", "-c", "read x; stty size"], tty=True)
    session.resize(33, 99)
    session.send(b"go\n")
    assert b"33 99" in output(session)[1]
    assert session.exit_code() == 0
    session.close()


def test_a_waiting_exec_is_ended_from_another_thread(bench: Bench) -> None:
    made = bench.engine.start(bench.plan())
    session = bench.engine.exec_stream(made, ["sleep", "3600"])
    thread = threading.Thread(target=output, args=(session,))
    thread.start()
    session.close()
    thread.join(3)
    assert not thread.is_alive()


@pytest.mark.parametrize(("command", "code"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_what_cannot_be_executed_gives_the_code_that_a_shell_would_give(bench: Bench, command: str, code: int) -> None:
    made = bench.engine.start(bench.plan())
    try:
        session = bench.engine.exec_stream(made, [command])
    except NotStarted as error:
        found = error.exit_code
    else:
        output(session)
        found = session.exit_code()
        session.close()
    assert found == code
    with pytest.raises(NotStarted) as caught:
        bench.engine.run_oneoff(bench.plan(kind="run", command_instead=(command,)))
    assert caught.value.exit_code == code
    assert len(bench.engine.observe(bench.app)) == 1


def test_exec_in_one_that_does_not_run_says_so(bench: Bench) -> None:
    made = bench.engine.start(bench.plan())
    bench.engine.kill(made)
    wait_for(lambda: bench.engine.observe(bench.app)[0].state == "exited")
    with pytest.raises(Stale, match="not running"):
        bench.engine.exec_stream(made, ["true"])


def test_a_one_off_has_the_apps_spec_and_leaves_nothing(bench: Bench) -> None:
    plan = bench.plan(kind="run", index=0, environment={"A": "7"}, command_instead=("sh", "-c", "cat; echo $A; exit 5"))
    session = bench.engine.run_oneoff(plan)
    (seen,) = bench.engine.observe(bench.app)
    assert (seen.kind, seen.name.startswith(f"{bench.app}-r1-run-")) == ("run", True)
    session.send(b"typed ")
    session.end_input()
    assert output(session)[1] == b"typed 7\n"
    assert session.exit_code() == 5
    session.close()
    assert bench.engine.observe(bench.app) == ()


def test_a_one_off_ends_with_its_person(bench: Bench) -> None:
    session = bench.engine.run_oneoff(bench.plan(kind="run", command_instead=("sleep", "3600")), tty=True)
    thread = threading.Thread(target=output, args=(session,))
    thread.start()
    session.close()
    thread.join(3)
    assert not thread.is_alive()
    wait_for(lambda: bench.engine.observe(bench.app) == ())


def test_one_offs_of_an_earlier_process_are_swept_away_and_attended_ones_are_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "ORPHAN_S", -5.0)
    plan = bench.plan(kind="run", command_instead=("sleep", "3600"))
    orphan = bench.another().run_oneoff(plan)
    bench.engine.observe_all()  # as at every start: else its address would be given twice
    attended = bench.engine.run_oneoff(plan)
    replica = bench.engine.start(bench.plan())
    bench.engine._streams.sweep()
    left = bench.engine.observe(bench.app)
    assert [one.kind for one in left if one.id != replica] == ["run"]
    assert replica in {one.id for one in left}
    attended.close()
    assert [one.id for one in bench.engine.observe(bench.app)] == [replica]
    orphan.close()


def test_two_one_offs_run_side_by_side(bench: Bench) -> None:
    plan = bench.plan(kind="run", command_instead=("cat",))
    first, second = bench.engine.run_oneoff(plan), bench.engine.run_oneoff(plan)
    assert len(bench.engine.observe(bench.app)) == 2
    for session, word in ((first, b"one"), (second, b"two")):
        session.send(word)
        session.end_input()
        assert output(session)[1] == word
        session.close()
