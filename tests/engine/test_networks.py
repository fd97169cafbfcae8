"""A network for each app: ours by label, on a free subnet, reached the way that works, and gone with its app."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import docker.errors
import pytest

from controller.engine.translate import Place, render_container
from controller.errors import ControllerError, Refused, Retry
from tests.engine.kit import Bench, a_bench, unique, wait_for

Subnet = ipaddress.IPv4Network
pytestmark = pytest.mark.engine


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """Return what the acts come to, or the errors that they end with, all begun together."""
    found: list[Any] = []

    def run(act: Callable[[], Any]) -> None:
        try:
            found.append(act())
        except ControllerError as error:
            found.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def networks_of(bench: Bench) -> dict[str, dict[str, Any]]:
    """Return this instance's networks by name."""
    found = bench.client.networks(filters={"label": f"oton.instance={bench.instance}"})
    return {each["Name"]: each for each in found}


def subnet_of(network: dict[str, Any]) -> Subnet:
    return Subnet(network["IPAM"]["Config"][0]["Subnet"])


def renew(bench: Bench) -> None:
    """Let what was promised a moment ago be long ago."""
    bench.engine = bench.another()


@contextmanager
def a_former_network(bench: Bench, subnet: str = "") -> Iterator[str]:
    """Make the network for all apps as former versions did."""
    pool = docker.types.IPAMPool(subnet=subnet or None)
    ipam = docker.types.IPAMConfig(pool_configs=[pool]) if subnet else None
    labels = {"oton.instance": bench.instance}
    bench.client.create_network(bench.network, driver="bridge", ipam=ipam, labels=labels)
    yield bench.network


def start_as_before(bench: Bench, app: str, network: str, **fields: Any) -> str:
    """Start a replica of *app* on the network of all, as former versions did."""
    plan = bench.plan(app, port=8000, **fields)
    body = render_container(plan, bench.instance, Place(network=network, address=None))
    del body["HostConfig"]["PortBindings"]
    made: str = bench.client.create_container_from_config(body, unique(f"{app}-r1-{plan.index}"))["Id"]
    bench.client.start(made)
    return made


def test_an_apps_network_is_made_once_though_many_ask_at_once() -> None:
    with a_bench() as bench:
        places = at_once(*[lambda: bench.engine._networks.place("shop")] * 6)
        assert [each.network for each in places] == [f"{bench.network}-shop"] * 6
        assert len({each.address for each in places}) == 6
        assert list(networks_of(bench)) == [f"{bench.network}-shop"]


def test_each_app_has_a_network_of_its_own() -> None:
    with a_bench() as bench:
        for app in ("shop", "db"):
            bench.engine.start(bench.plan(app, port=8000))
        found = networks_of(bench)
        assert set(found) == {f"{bench.network}-shop", f"{bench.network}-db"}
        assert {each["Labels"]["oton.app"] for each in found.values()} == {"shop", "db"}
        assert not subnet_of(found[f"{bench.network}-shop"]).overlaps(subnet_of(found[f"{bench.network}-db"]))
        for app in ("shop", "db"):
            (replica,) = bench.engine.observe(app)
            assert ipaddress.ip_address(replica.address) in subnet_of(found[f"{bench.network}-{app}"])


def test_a_restart_of_ours_finds_the_networks_again() -> None:
    with a_bench() as bench:
        first = bench.engine._networks.place("shop")
        again = bench.another()._networks.place("shop")
        assert again.network == first.network
        assert len(networks_of(bench)) == 1


def test_a_strangers_network_of_that_name_is_left_alone() -> None:
    with a_bench() as bench:
        foreign = bench.client.create_network(f"{bench.network}-shop")["Id"]
        try:
            assert bench.engine._networks.place("shop").network == f"{bench.network}-shop-2"
            bench.engine.retain_networks(())
            assert bench.client.inspect_network(foreign)["Containers"] == {}
        finally:
            bench.client.remove_network(foreign)


def test_subnets_come_out_of_the_range_that_is_asked_for_until_it_is_full() -> None:
    with a_bench(subnet="10.99.77.0/27") as bench:
        assert bench.engine._networks.place("shop").address == "10.99.77.2"
        assert bench.engine._networks.place("db").address == "10.99.77.18"
        with pytest.raises(Refused, match=r"network of third: OTON_SUBNET is 10\.99\.77\.0/27"):
            bench.engine._networks.place("third")
        assert bench.engine._networks.place("shop").address == "10.99.77.3"


def test_instances_that_want_the_same_range_share_it_without_failing() -> None:
    with a_bench(subnet="10.99.78.0/26") as one, a_bench(subnet="10.99.78.0/26") as other:
        asked = [(bench, app) for bench in (one, other) for app in ("shop", "db")]
        places = at_once(*[lambda pair=pair: pair[0].engine._networks.place(pair[1]) for pair in asked])
        assert len({each.address for each in places}) == 4


def test_an_app_that_grows_gets_a_wider_network_beside_the_first() -> None:
    with a_bench(subnet="10.99.79.0/24") as bench:
        shop = bench.app  # a container of that name elsewhere on the engine would take an address of its own
        made = bench.engine.start(bench.plan(shop, port=8000))
        bench.engine._networks.place(shop, 20)
        sizes = {name: subnet_of(each).prefixlen for name, each in networks_of(bench).items()}
        assert sizes == {f"{bench.network}-{shop}": 28, f"{bench.network}-{shop}-2": 26}
        assert bench.engine._networks.place(shop, 1).network == f"{bench.network}-{shop}-2"
        (replica,) = bench.engine.observe(shop)
        assert (replica.id, replica.address, replica.drift) == (made, "10.99.79.2", "")
        bench.engine._networks.place(shop, 300)  # a wider one than there can be: it stays where it is
        assert len(networks_of(bench)) == 2
        renew(bench)
        bench.engine.retain_networks({shop})
        assert len(networks_of(bench)) == 2
        bench.client.remove_container(made, force=True)
        bench.engine.retain_networks({shop})
        assert list(networks_of(bench)) == [f"{bench.network}-{shop}-2"]


def test_a_network_goes_with_its_app_when_nothing_is_left_on_it() -> None:
    with a_bench() as bench:
        made = bench.engine.start(bench.plan("shop"))
        bench.engine._networks.place("db")
        bench.engine.retain_networks(())
        assert len(networks_of(bench)) == 2  # promised a moment ago
        renew(bench)
        bench.engine.retain_networks({"db"})
        assert len(networks_of(bench)) == 2
        bench.engine.kill(made)
        wait_for(lambda: bench.engine.observe("shop")[0].state == "exited")
        bench.engine.retain_networks({"db"})
        assert len(networks_of(bench)) == 2  # an exited one may be started again
        bench.engine.remove(made)
        bench.engine.retain_networks({"db"})
        assert list(networks_of(bench)) == [f"{bench.network}-db"]
        bench.engine.start(bench.plan("shop"))
        assert len(networks_of(bench)) == 2


def test_a_network_that_a_stranger_joined_stays() -> None:
    with a_bench() as bench:
        place = bench.engine._networks.place("shop")
        renew(bench)
        host = bench.client.create_host_config(network_mode=place.network)
        stranger = bench.client.create_container("oton-test-engine:1", host_config=host)["Id"]
        try:
            bench.client.start(stranger)
            bench.engine.retain_networks(())
            assert list(networks_of(bench)) == [place.network]
        finally:
            bench.client.remove_container(stranger, force=True)


def test_another_apps_network_cannot_be_joined_by_name() -> None:
    with a_bench() as bench:
        bench.engine.start(bench.plan("db"))
        with pytest.raises(Refused, match=r"network of app db alone.*docker network create"):
            bench.engine.start(bench.plan("shop", networks=[f"{bench.network}-db"]))
        assert bench.engine.observe("shop") == ()


def test_what_a_former_version_put_on_one_network_serves_on_and_its_successor_is_apart() -> None:
    with a_bench() as bench, a_former_network(bench) as shared:
        old = [start_as_before(bench, app, shared) for app in ("shop", "db")]
        for app in ("shop", "db"):
            (replica,) = bench.engine.observe(app)
            assert (replica.state, replica.drift, bool(replica.address)) == ("running", "", True)
        (row,) = (each for each in bench.engine.doctor() if each.what == "networks")
        assert row.text.startswith("db, shop can still reach each other")
        bench.engine.start(bench.plan("shop", index=2, port=8000))
        first, second = bench.engine.observe("shop")
        assert subnet_of(networks_of(bench)[f"{bench.network}-shop"]).supernet_of(Subnet(f"{second.address}/32"))
        assert subnet_of(networks_of(bench)[shared]).supernet_of(Subnet(f"{first.address}/32"))
        bench.engine.retain_networks({"shop", "db"})
        assert shared in networks_of(bench)
        for each in old:
            bench.client.remove_container(each, force=True)
        bench.engine.retain_networks({"shop", "db"})
        assert shared not in networks_of(bench)
        assert all(each.what != "networks" for each in bench.engine.doctor())


def test_a_range_that_the_former_network_fills_holds_no_app_back() -> None:
    with a_bench(subnet="10.99.80.0/24") as bench, a_former_network(bench, "10.99.80.0/24") as shared:
        old = start_as_before(bench, "shop", shared)
        bench.engine.start(bench.plan("shop", index=2))
        bench.client.remove_container(old, force=True)
        bench.engine.retain_networks({"shop"})
        assert bench.engine._networks.place("db").address.startswith("10.99.80.")


@pytest.mark.parametrize("is_there", [True, False])
def test_an_exited_one_of_a_former_version_is_started_again(is_there: bool) -> None:
    with a_bench() as bench, a_former_network(bench) as shared:
        old = start_as_before(bench, "shop", shared, command=["sleep", "3600"])
        bench.client.kill(old)
        wait_for(lambda: bench.engine.observe("shop")[0].state == "exited")
        if not is_there:
            bench.client.remove_network(shared)
        bench.engine.restart(old)
        (replica,) = bench.another().observe("shop")
        assert (replica.id, replica.state, bool(replica.address)) == (old, "running", True)
        assert bool(replica.drift) is not is_there  # so that a successor takes over


def test_a_container_without_own_address_is_on_its_apps_network_too() -> None:
    with a_bench(upstream="port") as bench:
        bench.engine.start(bench.plan("shop", port=8000))
        (replica,) = bench.engine.observe("shop")
        assert replica.address == "127.0.0.1"
        seen = bench.client.inspect_container(replica.id)["NetworkSettings"]["Networks"]
        assert list(seen) == [f"{bench.network}-shop"]


def test_an_engine_that_hangs_keeps_nobody_waiting_for_long() -> None:
    with a_bench() as bench:
        networks = bench.engine._networks
        with networks._held():
            (said,) = at_once(lambda: networks.place("shop"))
        assert isinstance(said, Retry)


@pytest.mark.slow
def test_two_hundred_apps_have_networks_on_one_engine() -> None:
    with a_bench() as bench:
        places = [bench.engine._networks.place(f"{unique('app')}-{number}") for number in range(200)]
        found = networks_of(bench)
        assert len({each.network for each in places}) == len(found) == 200
        assert len({subnet_of(each) for each in found.values()}) == 200
        renew(bench)
        bench.engine.retain_networks(())
        assert not networks_of(bench)


def test_the_doctor_looks_and_makes_nothing(tmp_path) -> None:
    with a_bench() as bench:
        rows = bench.engine.doctor()
        assert {row.what for row in rows} >= {"engine", "engine clock", "engine storage", "replicas"}
        assert all(row.state == "ok" or row.mend for row in rows)
        assert not networks_of(bench)
        away = bench.another(docker_host=f"unix://{tmp_path}/none.sock").doctor()
        assert [row.state for row in away] == ["error"]
        assert "DOCKER_HOST" in away[0].mend
