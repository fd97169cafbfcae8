"""The replicas' network: ours by label, on a free subnet, and reached the way that works."""

from __future__ import annotations

import ipaddress
import threading

import pytest

from controller.engine import networks as room
from controller.engine.networks import is_bridge_reachable, pick_subnets
from controller.errors import Refused
from tests.engine.kit import a_bench

Subnet = ipaddress.IPv4Network


def test_a_picked_subnet_overlaps_nothing_that_is_there():
    taken = [Subnet("10.0.0.0/9"), Subnet("10.211.0.0/24"), Subnet("172.17.0.0/16")]
    picked = list(pick_subnets(taken, "abc"))
    assert picked
    assert not any(one.overlaps(other) for one in picked for other in taken)
    assert all(one.prefixlen == 20 for one in picked)


def test_two_instances_start_looking_at_different_places():
    assert next(pick_subnets([], "instance-a")) != next(pick_subnets([], "instance-b"))


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
def test_own_addresses_are_used_only_where_this_host_has_a_route(monkeypatch, info, is_local, reachable):
    monkeypatch.setattr(room, "_routes", lambda: iter([Subnet("10.211.0.0/20")]))
    assert is_bridge_reachable(info, is_local, "10.211.0.0/20") is reachable
    assert not is_bridge_reachable(info, is_local, "10.212.0.0/20")


@pytest.mark.engine
def test_the_network_is_made_once_though_many_ask_at_once():
    with a_bench() as bench:
        names: list[str] = []
        threads = [
            threading.Thread(target=lambda: names.append(bench.engine._networks.place().network)) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert names == [bench.network] * 6
        found = bench.client.networks(filters={"label": f"oton.instance={bench.instance}"})
        assert [each["Name"] for each in found] == [bench.network]


@pytest.mark.engine
def test_a_restart_of_ours_finds_the_network_again():
    with a_bench() as bench:
        first = bench.engine._networks.place()
        again = bench.another()._networks.place()
        assert again.network == first.network
        found = bench.client.networks(filters={"label": f"oton.instance={bench.instance}"})
        assert len(found) == 1


@pytest.mark.engine
def test_a_strangers_network_of_that_name_is_left_alone():
    with a_bench() as bench:
        foreign = bench.client.create_network(bench.network)["Id"]
        try:
            assert bench.engine._networks.place().network == f"{bench.network}-2"
            assert bench.client.inspect_network(foreign)["Containers"] == {}
        finally:
            bench.client.remove_network(foreign)


@pytest.mark.engine
def test_a_subnet_that_is_asked_for_is_used_or_refused():
    with a_bench(subnet="10.99.77.0/24") as bench:
        assert bench.engine._networks.place().address == "10.99.77.2"
        with (
            a_bench(subnet="10.99.77.128/25") as other,
            pytest.raises(Refused, match=r"OTON_SUBNET: 10\.99\.77\.128/25 overlaps"),
        ):
            other.engine._networks.place()


@pytest.mark.engine
def test_the_doctor_looks_and_makes_nothing(tmp_path):
    with a_bench() as bench:
        rows = bench.engine.doctor()
        assert {row.what for row in rows} >= {"engine", "engine clock", "engine storage", "replicas"}
        assert all(row.state == "ok" or row.mend for row in rows)
        assert bench.client.networks(filters={"label": f"oton.instance={bench.instance}"}) == []
        away = bench.another(docker_host=f"unix://{tmp_path}/none.sock").doctor()
        assert [row.state for row in away] == ["error"]
        assert "DOCKER_HOST" in away[0].mend
