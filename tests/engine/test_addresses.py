"""A freed address is not soon another app's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.clock import steady_seconds
from controller.engine.addresses import Addresses
from controller.errors import Retry


def eight(memo=None) -> Addresses:
    """Return the five usable addresses of a /29: .2 to .6."""
    made = Addresses(memo)
    made.adopt("10.0.0.0/29", "10.0.0.1")
    return made


def last(address: str) -> int:
    return int(address.rsplit(".", 1)[1])


def test_never_used_ones_come_first_and_then_the_longest_unused():
    book = eight()
    given_out = [book.take() for _ in range(3)]
    for number, address in enumerate(given_out):
        book.bind(f"c{number}", address)
    book.give_back(given_out[1])
    book.give_back(given_out[0])
    assert [last(book.take()) for _ in range(4)] == [5, 6, 3, 2]


def test_when_all_are_in_use_it_says_what_to_do():
    book = eight()
    for _ in range(5):
        book.take()
    with pytest.raises(Retry, match="OTON_SUBNET"):
        book.take()


def test_addresses_of_containers_that_are_there_already_are_not_given():
    book = eight()
    book.bind("old", "10.0.0.2")
    book.bind("old", "10.0.0.2")
    book.bind("elsewhere", "192.168.0.9")
    assert last(book.take()) == 3


def test_a_container_that_is_gone_gives_its_address_back():
    book = eight()
    for name in "ab":
        book.bind(name, book.take())
    book.settle(frozenset("a"), steady_seconds())
    assert [last(book.take()) for _ in range(4)] == [4, 5, 6, 3]


def test_a_list_older_than_a_container_frees_nothing_of_it():
    book = eight()
    listed = steady_seconds()
    book.bind("new", book.take())
    book.settle(frozenset(), listed)
    assert [last(book.take()) for _ in range(4)] == [3, 4, 5, 6]
    with pytest.raises(Retry):
        book.take()


def test_an_address_whose_container_is_being_made_is_kept():
    book = eight()
    book.take()
    book.settle(frozenset(), steady_seconds())
    assert [last(book.take()) for _ in range(4)] == [3, 4, 5, 6]
    with pytest.raises(Retry):
        book.take()


def test_after_a_restart_it_goes_on_behind_the_last_given_one(tmp_path):
    book = eight(tmp_path / "address")
    book.take()
    book.take()
    again = eight(tmp_path / "address")
    assert [last(again.take()) for _ in range(5)] == [4, 5, 6, 2, 3]


def test_a_lost_or_broken_note_costs_nothing_but_the_order(tmp_path):
    (tmp_path / "address").write_bytes(b"\xff nonsense")
    assert last(eight(tmp_path / "address").take()) == 2


def test_the_gateway_is_never_given():
    book = Addresses()
    book.adopt("10.0.0.0/29", "10.0.0.4")
    assert [last(book.take()) for _ in range(5)] == [1, 2, 3, 5, 6]


@given(st.lists(st.booleans(), max_size=60))
def test_no_address_is_held_twice_and_a_freed_one_waits_for_all_other_free_ones(takes):
    book, held, freed = eight(), [], list(range(2, 7))
    for take in takes:
        if take and freed:
            address = book.take()
            assert last(address) == freed.pop(0)
            assert address not in held
            held.append(address)
        elif held:
            address = held.pop(0)
            book.give_back(address)
            freed.append(last(address))
