from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from controller.errors import Broken, ControllerError, Refused, Retry
from controller.plan.situation import Answer
from controller.store import Store
from controller.store.connection import raw_connection
from controller.store.thread import Transaction
from tests.builders import at
from tests.store.kit import MovedClock, Running, a_decision, a_memory, a_release, an_order, running, sql, writes


def failing(code: int, words: str = "trouble"):
    """Return a job that writes and then meets the error that SQLite names *code*."""

    def job(tx: Transaction) -> None:
        tx.connection.exec_driver_sql("INSERT INTO counters VALUES ('half', 1)")
        error = sqlite3.OperationalError(words)
        error.sqlite_errorcode = code
        raise OperationalError("COMMIT", {}, error)

    return job


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, Retry),
        (sqlite3.SQLITE_BUSY, Retry),
        (sqlite3.SQLITE_IOERR_FSYNC, Retry),
        (sqlite3.SQLITE_IOERR_WRITE, Retry),
        (sqlite3.SQLITE_READONLY, Retry),
        (sqlite3.SQLITE_CORRUPT, Refused),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, Broken),
    ],
)
def test_what_sqlite_meets_says_what_the_loop_shall_do(
    store: Store, path: Path, code: int, kind: type[ControllerError]
):
    store.intend("shop", a_decision(), at())
    before = store.load("shop")
    with pytest.raises(kind, match=f"{path.name}: trouble"):
        store._thread.call(failing(code))
    assert sql(store, "SELECT * FROM counters WHERE name = 'half'") == []
    assert store.load("shop") == before
    assert store.next_change() > 0


def test_a_job_with_a_defect_fails_its_caller_alone(store: Store):
    with pytest.raises(Broken, match="ZeroDivisionError"):
        store._thread.call(lambda tx: 1 // 0)
    assert store.next_change() > 0


def test_the_file_is_synced_at_every_commit_and_keeps_its_rules(store: Store):
    pragmas = ("journal_mode", "synchronous", "foreign_keys", "locking_mode")
    assert [sql(store, f"PRAGMA {name}")[0][0] for name in pragmas] == ["wal", 2, 1, "exclusive"]


def test_only_its_owner_can_read_the_file(store: Store, path: Path):
    store.next_change()
    assert {one.name: one.stat().st_mode & 0o777 for one in path.parent.iterdir()} == {
        "database.db": 0o600,
        "numbers": 0o600,
        "database.db-wal": 0o600,
    }


def test_ten_threads_lose_nothing_and_see_their_own_writes(store: Store):
    errors: list[Exception] = []

    def work(number: int) -> list[int]:
        app, taken = f"app-{number % 5}", []
        for turn in range(15):
            order = store.order(an_order(app=app))
            taken.append(order.id)
            assert order in store.load(app)[2]
            answer = Answer(order=order.id, result="done")
            memory = a_memory(1, change=order.id)
            store.intend(
                app, a_decision(memory=memory, releases=(a_release(1, message=str(turn)),), answers=(answer,)), at()
            )
            assert store.answer(order.id) == answer
            store.add_event(app, "note", "info", f"{number}:{turn}")
            taken.append(store.next_change())
        return taken

    with ThreadPoolExecutor(10) as pool:
        taken = [number for found in pool.map(work, range(10)) for number in found]
    assert not errors
    assert len(set(taken)) == len(taken) == 300
    assert len({event.text for event in store.events() if ":" in event.text and event.kind == "note"}) == 150
    assert all(store.load(f"app-{number}")[2] == () for number in range(5))


def test_a_store_that_takes_too_long_is_tried_again_later_and_nothing_is_written_late(store: Store):
    hold, entered = threading.Event(), threading.Event()

    def slow(tx: Transaction) -> None:
        entered.set()
        hold.wait(20)

    stuck = store._thread.submit(slow)
    assert entered.wait(10)
    with pytest.raises(Retry, match=r"did not answer within 0\.05 s"):
        store._thread.call(failing(sqlite3.SQLITE_FULL), deadline_s=0.05)
    before = store._thread.submit(lambda tx: tx.connection.exec_driver_sql("SELECT total_changes()").scalar_one())
    hold.set()
    stuck.result(10)
    assert writes(store) == before.result(10)


def test_what_the_store_answers_with_does_not_wait_for_it(store: Store):
    store.intend("shop", a_decision(), at())
    hold, entered = threading.Event(), threading.Event()
    stuck = store._thread.submit(lambda tx: (entered.set(), hold.wait(20)))
    assert entered.wait(10)
    store.load("shop")
    store.apps()
    store.load_standings()
    store.tokens.verify("oton_" + "x" * 43)
    store.secrets.versions("shop")
    store.intend("shop", a_decision(), at())
    hold.set()
    stuck.result(10)


def test_a_dead_store_thread_is_loud(path: Path, clock: MovedClock):
    one = Running(path, clock)
    one.thread.start()
    one.store.wait_open(20)

    class Death(BaseException):
        pass

    def die(tx: Transaction) -> None:
        raise Death

    with pytest.raises(ControllerError):
        one.store._thread.call(die, deadline_s=3)
    one.thread.join(10)
    assert [type(error) for error in one.trouble] == [Death]
    with pytest.raises(Broken, match="the store's thread has died"):
        one.store.next_change()
    with pytest.raises(Broken, match="the store's thread has died"):
        one.store.intend("shop", a_decision(), at())


def test_a_closed_store_says_so(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        pass
    with pytest.raises(Retry, match="the store is closed"):
        store.next_change()


def test_what_was_asked_before_the_end_is_written(path: Path, clock: MovedClock):
    one = Running(path, clock)
    one.thread.start()
    one.store.wait_open(20)
    hold, entered = threading.Event(), threading.Event()
    one.store._thread.submit(lambda tx: (entered.set(), hold.wait(20)))
    assert entered.wait(10)
    late = one.store._thread.submit(lambda tx: one.store._counters.next(tx, "change"))
    one.stop.set()
    hold.set()
    one.thread.join(10)
    with running(path, clock) as store:
        assert store.next_change() > late.result(0)


def test_a_database_that_is_taken_away_freezes_changes_until_it_is_back(store: Store, path: Path):
    store.next_change()
    away = path.rename(path.with_name("away.db"))
    for replaced in (False, True):
        if replaced:
            path.write_bytes(b"")
        with pytest.raises(Retry, match="moved or replaced while in use"):
            store.next_change()
    away.replace(path)
    assert store.next_change() > 0


def test_an_event_listener_sees_every_event_in_order_once_it_is_stored(store: Store):
    seen = []
    stop = store.on_event(lambda event: seen.append((event.id, event.text)))
    store.intend("shop", a_decision(), at())
    store.add_event("", "engine", "warning", "engine away")
    stop()
    store.add_event("", "engine", "info", "engine back")
    assert [text for _, text in seen] == ["release 1: rolling out: spec changed", "new spec", "engine away"]
    assert [id_ for id_, _ in seen] == sorted(id_ for id_, _ in seen)


def test_after_a_write_that_failed_in_the_middle_the_disk_is_asked_what_it_holds(path: Path, clock: MovedClock):
    with running(path, clock) as store:
        store.intend("shop", a_decision(), at())
        order = store.order(an_order())
        # The commit reached the disk, but nobody was told: what is in memory must follow the disk.
        answer = f'{{"order":{order.id},"result":"done"}}'

        def lost_reply(tx: Transaction) -> None:
            tx.connection.exec_driver_sql("UPDATE orders SET answer = ?, answered = 0", (answer,))
            raw = raw_connection(tx.connection)
            raw.execute("COMMIT")
            raw.execute("BEGIN")
            failing(sqlite3.SQLITE_IOERR_FSYNC)(tx)

        with pytest.raises(Retry):
            store._thread.call(lost_reply)
        store.next_change()
        assert store.load("shop")[2] == ()
        assert store.answer(order.id) == Answer(order=order.id, result="done")


def test_a_listener_that_fails_harms_nobody_else(store: Store):
    seen = []

    def fail(event: object) -> None:
        raise RuntimeError("the loop is closed")

    store.on_event(fail)
    store.on_event(lambda event: seen.append((event.text, store.load("shop")[0].last_release)))
    store.intend("shop", a_decision(notes=()), at())
    assert store.load("shop")[0] == a_memory()
    assert seen == [("release 1: rolling out: spec changed", 1)]
    assert len(store.events()) == 1


def test_whether_it_can_be_written_is_found_out_by_writing_but_not_all_the_time(store: Store, clock: MovedClock):
    before = writes(store)
    for _ in range(10):
        store.check_writable()
    assert writes(store) == before + 1
    clock.move(6)
    sql(store, "CREATE TRIGGER full BEFORE INSERT ON counters BEGIN SELECT RAISE(ABORT, 'full'); END")
    for _ in range(2):
        with pytest.raises(Broken, match="full"):
            store.check_writable()
    sql(store, "DROP TRIGGER full")
    store.check_writable()
