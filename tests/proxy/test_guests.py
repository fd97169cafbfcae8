"""Connections by client address, in two workers that share memory."""

from __future__ import annotations

import pytest

from controller.proxy.guests import Guests
from controller.proxy.tallies import COLUMNS, Tallies
from controller.proxy.wheel import NEVER

MOST = 3


@pytest.fixture
def memory() -> memoryview:
    return memoryview(bytearray(4 * (COLUMNS + 64 * (COLUMNS + 2))))


@pytest.fixture
def workers(memory: memoryview, monkeypatch: pytest.MonkeyPatch) -> tuple[Guests, Guests]:
    # Two workers in one process: each column belongs to a process, so the second one has to be another.
    first = Guests(Tallies(memory, 0))
    monkeypatch.setattr("os.getpid", lambda: 1)
    return first, Guests(Tallies(memory, 1))


def test_the_limit_holds_over_both(workers: tuple[Guests, Guests]) -> None:
    one, other = workers
    assert [guests.arrive("a", MOST) for guests in (one, other, one, other, one)] == [True, True, True, False, False]
    assert other.arrive("b", MOST), "another address has its own count"


def test_one_that_was_refused_is_counted_nowhere(workers: tuple[Guests, Guests]) -> None:
    one, other = workers
    assert [guests.arrive("a", MOST) for guests in (one, one, one, other)] == [True, True, True, False]
    one.leave("a")
    assert one.arrive("a", MOST)
    assert not one.arrive("a", MOST)


def test_one_that_left_makes_room_in_both(workers: tuple[Guests, Guests]) -> None:
    one, other = workers
    for _ in range(MOST):
        one.arrive("a", MOST)
    assert not other.arrive("a", MOST)
    for _ in range(MOST):
        one.leave("a")
    assert [other.arrive("a", MOST) for _ in range(MOST + 1)] == [True, True, True, False]


def test_a_trusted_proxy_has_no_limit_and_is_counted_all_the_same(workers: tuple[Guests, Guests]) -> None:
    one, other = workers
    assert all(one.arrive("a", NEVER) for _ in range(10 * MOST))
    assert not other.arrive("a", MOST)


def test_more_addresses_than_rows_are_counted_by_each_worker_alone(workers: tuple[Guests, Guests]) -> None:
    one, _ = workers
    for address in map(str, range(200)):
        assert [one.arrive(address, 1), one.arrive(address, 1)] == [True, False]
    for address in map(str, range(200)):
        one.leave(address)
        assert one.arrive(address, 1)


def test_nothing_is_kept_of_addresses_that_have_gone(memory: memoryview) -> None:
    tallies = Tallies(memory, 0)
    guests = Guests(tallies)
    for address in map(str, range(500)):
        assert guests.arrive(address, 1)
        guests.leave(address)
    assert not guests._here
    assert all(tallies.find(f"client {address}") >= 0 for address in ("x", "y", "z"))
