"""Which addresses an app's network gets: free ones, and those of a removed app last of all."""

from __future__ import annotations

import ipaddress
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.engine import subnets as room
from controller.engine.subnets import (
    POOL,
    Subnet,
    Subnets,
    is_bridge_reachable,
    pick_subnets,
    prefix_for,
    usual_prefix,
)

SMALL = (Subnet("10.9.0.0/24"),)

subnets = st.builds(
    lambda address, prefix: Subnet((address, prefix), strict=False),
    st.integers(int(ipaddress.ip_address("10.8.250.0")), int(ipaddress.ip_address("10.9.1.255"))),
    st.integers(20, 32),
)


@given(st.lists(subnets, max_size=8), st.integers(24, 28), st.one_of(st.just(""), subnets.map(str)))
def test_every_free_subnet_is_yielded_once_and_no_other(taken: list[Subnet], prefix: int, after: str) -> None:
    free = [each for each in SMALL[0].subnets(new_prefix=prefix) if not any(map(each.overlaps, taken))]
    picked = list(pick_subnets(SMALL, prefix, taken, "abc", after))
    assert sorted(picked) == free


@given(st.lists(st.integers(0, 40), max_size=60))
def test_a_freed_subnet_is_given_again_after_all_other_free_ones(wishes: list[int]) -> None:
    picker, held = Subnets("abc", "10.9.0.0/24", None), list[Subnet]()
    never, freed = list(picker.pick(4, [])), list[Subnet]()
    for wish in wishes:
        if wish < len(held):
            freed.append(held.pop(wish))
            picker.freed(freed[-1])
        elif never or freed:
            given_now = next(picker.pick(4, held))
            assert given_now == (never or freed).pop(0)
            picker.note(given_now)
            held.append(given_now)
    assert list(picker.pick(4, held)) == [*never, *freed]


def test_the_order_goes_on_after_a_restart_of_ours(tmp_path) -> None:
    first = Subnets("abc", None, tmp_path / "subnet")
    given_out = next(first.pick(4, []))
    first.note(given_out)
    again = Subnets("abc", None, tmp_path / "subnet")
    assert next(again.pick(4, [])) == Subnet((int(given_out.broadcast_address) + 1, 24))
    (tmp_path / "subnet").write_bytes(b"\xff nonsense")
    assert next(Subnets("abc", None, tmp_path / "subnet").pick(4, [])) == given_out


def test_five_hundred_apps_have_room_on_one_engine() -> None:
    taken: list[Subnet] = []
    picker = Subnets("abc", None, None)
    for _ in range(500):
        taken.append(next(picker.pick(4, taken)))
        picker.note(taken[-1])
    assert len(set(taken)) == 500
    assert all(each.prefixlen == 24 for each in taken)


def test_two_instances_start_looking_at_different_places() -> None:
    assert next(Subnets("instance-a", None, None).pick(4, [])) != next(Subnets("instance-b", None, None).pick(4, []))


@pytest.mark.parametrize(
    ("space", "usual"), [("10.0.0.0/8", 24), ("10.9.0.0/18", 24), ("10.9.0.0/20", 26), ("10.9.0.0/28", 28)]
)
def test_a_small_pool_is_cut_into_smaller_networks(space: str, usual: int) -> None:
    assert usual_prefix(Subnet(space)) == usual
    assert next(Subnets("abc", space, None).pick(4, [])).prefixlen == usual


@given(st.integers(1, 3000))
def test_an_app_with_many_replicas_gets_a_wider_network(need: int) -> None:
    prefix = prefix_for(need)
    assert (1 << (32 - prefix)) - 3 >= min(need, 1021)
    first = next(Subnets("abc", None, None).pick(need, []))
    assert first.prefixlen == min(24, prefix)


def test_a_range_that_the_former_shared_network_fills_is_left_to_it() -> None:
    picker = Subnets("abc", "10.99.0.0/20", None)
    assert next(picker.pick(4, [], former=[Subnet("10.99.0.0/20")])).subnet_of(Subnet("10.0.0.0/8"))
    assert next(picker.pick(4, [], former=[Subnet("10.98.0.0/20")])).subnet_of(Subnet("10.99.0.0/20"))


def test_nothing_free_is_nothing_picked() -> None:
    assert not list(Subnets("abc", "10.9.0.0/24", None).pick(4, [Subnet("10.0.0.0/8")]))
    assert "10.9.0.0/24" in Subnets("abc", "10.9.0.0/24", None).advice()
    assert len(list(islice(pick_subnets(POOL, 24, [], "abc"), 300))) == 300


@pytest.mark.parametrize(
    ("info", "is_local", "reachable"),
    [
        ({}, True, True),
        ({"SecurityOptions": ["name=seccomp,profile=default"]}, True, True),
        ({"SecurityOptions": ["name=rootless"]}, True, False),
        ({"OperatingSystem": "Docker Desktop"}, True, False),
        ({}, False, False),
    ],
)
def test_own_addresses_are_used_only_where_this_host_has_a_route(monkeypatch, info, is_local, reachable) -> None:
    monkeypatch.setattr(room, "host_routes", lambda: iter([Subnet("10.211.0.0/24")]))
    assert is_bridge_reachable(info, is_local, Subnet("10.211.0.0/24")) is reachable
    assert not is_bridge_reachable(info, is_local, Subnet("10.212.0.0/24"))
    assert not is_bridge_reachable(info, is_local, None)
