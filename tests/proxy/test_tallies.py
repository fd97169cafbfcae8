"""What is open is added up over workers, and a worker that dies takes its share with it."""

import os
import subprocess
import sys

import pytest

from controller.proxy.limits import Limits
from controller.proxy.tallies import COLUMNS, Tallies, memory_for
from controller.routing.table import Policy
from tests.proxy.rig import Caller, Visit, a_lane, an_app, wait_for


def a_memory() -> memoryview:
    return memoryview(bytearray(64 * 1024))


def test_workers_see_each_others_counts() -> None:
    memory = a_memory()
    one = Tallies(memory, 1)
    other = Tallies(memory, 2)
    other._column = (one._column + 1) % COLUMNS  # both are this process
    at = one.find("app shop")
    assert other.find("app shop") == at
    assert one.set(at, 3) == 0
    assert other.set(at, 4) == 3
    assert one.set(at, 2) == 4
    assert one.total(at) == 6


def test_a_row_in_which_nothing_is_open_is_free_for_another_key() -> None:
    tallies = Tallies(memoryview(bytearray(4 * (COLUMNS + (COLUMNS + 2)))), 1)
    at = tallies.find("a")
    tallies.set(at, 1)
    assert tallies.find("b") == -1
    tallies.set(at, 0)
    assert tallies.find("b") == at


def test_what_a_dead_worker_had_open_is_forgotten() -> None:
    memory = a_memory()
    tallies = Tallies(memory, 1)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    at = tallies.find("a")
    column = (tallies._column + 1) % COLUMNS
    tallies._cells[column] = dead.pid
    tallies._cells[at + 2 + column] = 7
    assert tallies.total(at) == 7
    tallies.sweep()
    assert tallies.total(at) == 0


def test_a_worker_takes_a_column_that_nobody_alive_has() -> None:
    memory = a_memory()
    first = Tallies(memory, 3)
    first._cells[first._column] = os.getppid()
    assert Tallies(memory, 3)._column != first._column


def others_take(memory: memoryview, columns: int, pid: int) -> None:
    """Have living workers (all with the number *pid*) take every column that is free."""
    cells = memory.cast("I")
    for column in range(columns):
        cells[column] = cells[column] or pid


def test_a_worker_too_many_disturbs_nobodys_count_and_sees_them_all() -> None:
    memory = a_memory()
    others_take(memory, COLUMNS, os.getppid())
    extra = Tallies(memory, 20)
    at = extra.find("app shop")
    for column in range(COLUMNS):
        extra._cells[at + 2 + column] = 2
    assert extra.set(at, 7) == 2 * COLUMNS
    assert extra.total(at) == 2 * COLUMNS
    extra.sweep()
    assert extra.total(at) == 2 * COLUMNS
    extra._cells[3], extra._cells[at + 2 + 3] = 0, 0  # a worker has gone
    extra.sweep()
    assert extra.set(at, 7) == 2 * (COLUMNS - 1)
    assert extra.total(at) == 2 * (COLUMNS - 1) + 7


def test_a_worker_whose_column_another_took_at_the_same_moment_takes_a_new_one() -> None:
    memory = a_memory()
    tallies = Tallies(memory, 1)
    lost = tallies._column
    tallies._cells[lost] = os.getppid()
    tallies.sweep()
    assert tallies._column != lost
    assert tallies._cells[tallies._column] == os.getpid()


@pytest.mark.parametrize("workers", [1, 7, 8, 40, 256])
def test_there_is_room_for_all_workers_and_those_that_replace_them(workers: int) -> None:
    tallies = Tallies(memoryview(bytearray(memory_for(workers))), 2 * workers - 1)
    assert tallies._columns >= 2 * workers
    assert tallies._rows > 14_000, "as many keys as with few workers"
    at = tallies.find("app shop")
    assert tallies.set(at, 3) == 0
    assert tallies.total(at) == 3


async def silent(visit: Visit) -> None:
    await visit.head()
    await visit.reader.read()


def test_requests_in_flight_are_bounded_across_workers() -> None:
    shared = memoryview(bytearray(1024 * 1024))
    quick = Limits(half_closed_s=0.2)
    with a_lane(quick, shared=shared, worker=1) as one, a_lane(quick, shared=shared, worker=2) as other:
        other.core.tallies._column = (one.core.tallies._column + 1) % COLUMNS
        backend = one.backend(silent)
        for lane in (one, other):
            lane.take(an_app(backend, policy=Policy(max_in_flight=4)))
        callers = []
        for number in range(4):
            callers.append(Caller(one.port if number % 2 else other.port))
            callers[-1].send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_for(lambda: len(backend.heads) == len(callers))
        with Caller(one.port) as late:
            assert late.get().status == 429
        for caller in callers:
            caller.close()
        with Caller(other.port) as again:
            wait_for(lambda: one.core.live.apps["shop"].in_flight == other.core.live.apps["shop"].in_flight == 0)
            again.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_for(lambda: len(backend.heads) == 5)


def test_connections_of_a_client_are_bounded_across_workers() -> None:
    shared = memoryview(bytearray(1024 * 1024))
    limits = Limits(connections_per_client=2)
    with a_lane(limits, shared=shared, worker=1) as one, a_lane(limits, shared=shared, worker=2) as other:
        other.core.tallies._column = (one.core.tallies._column + 1) % COLUMNS
        for lane in (one, other):
            lane.serve()
        with Caller(one.port) as first, Caller(other.port) as second:
            assert first.get().status == second.get().status == 200
            with Caller(one.port) as third:
                assert third.is_closed()
        wait_for(lambda: not one.core.clients and not other.core.clients)
        with Caller(one.port) as again:
            assert again.get().status == 200
