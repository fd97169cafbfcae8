"""F45: from inside its own container a tenant reaches nothing of another app, and sees nothing of its traffic."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import open_house
from tests.parts.service import Service, engine
from tests.parts.stage import Stage
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PRY = """
import json, socket, sys
def tells(act):
    try:
        act()
        return "yes"
    except OSError as error:
        return type(error).__name__
def dial(host, port):
    socket.create_connection((host, int(port)), 2).close()
said = {}
for name, host, port in json.loads(sys.argv[1])["dial"]:
    said[name] = tells(lambda: dial(host, port))
for name, host in json.loads(sys.argv[1])["names"]:
    said[name] = tells(lambda: socket.gethostbyname(host))
said["raw frames"] = tells(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)).close())
said["raw packets"] = tells(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close())
print(json.dumps(said))
"""


def pry(container: str, *, dial: list[tuple[str, str, int]], names: list[tuple[str, str]]) -> dict[str, str]:
    """Return what a program inside *container* came to when it tried each of these."""
    with engine() as client:
        command = ["/usr/bin/python3", "-I", "-S", "-c", PRY, json.dumps({"dial": dial, "names": names})]
        made = client.exec_create(container, command)["Id"]
        out: bytes = client.exec_start(made)
    said: dict[str, str] = json.loads(out)
    return said


def test_a_replica_reaches_no_other_app_and_can_forge_no_frame(stage: Callable[..., Stage]) -> None:
    ours, theirs = stage("tenant", replicas=2), stage("victim", replicas=1)
    ours.put("v1")
    theirs.put("v1")
    ours.wait_live("v1")
    theirs.wait_live("v1")
    (victim,) = (upstream_of(theirs, each) for each in theirs.running())
    brother, sister = sorted(ours.running())
    said = pry(
        brother,
        dial=[
            ("victim", victim, 8000),
            ("victim's gateway's engine", f"{victim.rpartition('.')[0]}.1", 2375),
            ("sister", upstream_of(ours, sister), 8000),
        ],
        names=[("victim's name", theirs.name), ("victim's container", f"{theirs.name}-r1-1"), ("own name", ours.name)],
    )
    assert said.pop("sister") == "yes"
    assert said.pop("own name") == "yes"
    assert "yes" not in said.values(), said


def upstream_of(stage: Stage, container: str) -> str:
    """Return the address at which the proxy reaches a replica."""
    with engine() as client:
        networks = client.inspect_container(container)["NetworkSettings"]["Networks"]
    (address,) = (each["IPAddress"] for each in networks.values())
    return str(address)


def test_apps_that_ask_for_each_other_have_each_others_names(stage: Callable[..., Stage]) -> None:
    shop, db = stage("front", replicas=1), stage("store", replicas=1)
    name = f"{shop.service.environment['OTON_NETWORK']}-backend"
    with engine() as client:
        network = client.create_network(name)["Id"]
        try:
            for each in (shop, db):
                each.deploy("v1", networks=[name])
            (container,) = shop.running()
            said = pry(container, dial=[("its name", db.name, 8000)], names=[])
            assert said["its name"] == "yes"
            assert "yes" not in (said["raw frames"], said["raw packets"])
        finally:
            for each in (shop, db):
                each.close()
            client.remove_network(network)


def test_a_capability_that_the_spec_asks_for_is_there(stage: Callable[..., Stage]) -> None:
    sniffer = stage("sniffer", replicas=1)
    sniffer.deploy("v1", cap_add=["NET_RAW"])
    (container,) = sniffer.running()
    assert pry(container, dial=[], names=[])["raw frames"] == "yes"


def test_a_folder_that_became_a_link_is_not_bound_again_and_the_services_own_never(
    stage: Callable[..., Stage], tmp_path: Path
) -> None:
    shop, own = stage("binder", replicas=1), tmp_path / "own"
    own.mkdir()
    house = shop.service
    shop.deploy("v1", volumes=[f"{house.logs}:/check", f"{own}:/own"])
    (container,) = shop.running()
    for source in (house.state, house.desired, house.root, "/var/run"):
        done = shop.apply("v2", volumes=[f"{house.logs}:/check", f"{source}:/own:ro"])
        assert done.returncode == 3, done.stderr
        assert "which no container ever gets" in done.stderr
        assert shop.running() == {container}
    shop.deploy("v1", volumes=[f"{house.logs}:/check", f"{own}:/own"])
    assert shop.running() == {container}
    own.rmdir()
    own.symlink_to("/")  # as a container could have done that had the folder around it
    with engine() as client:
        client.kill(container)
    wait_for(lambda: "symbolic link" in house.oton("events", shop.name).stdout, 20, "it is told", look_s=0.5)
    assert not shop.running()
    own.unlink()
    own.mkdir()
    shop.wait(lambda row: row["health"] == "healthy")


@pytest.mark.slow
@pytest.mark.core
def test_apps_of_a_former_version_move_to_their_own_networks_without_a_lost_request(tmp_path: Path) -> None:
    with open_house(tmp_path / "house") as house:
        stages = [Stage(house, name, replicas=2) for name in ("shop", "blog")]
        for each in stages:
            each.deploy("v1")
        house.stop()
        shared = put_on_one_network(house)
        house.start()
        shop, blog = stages
        for each in stages:
            each.wait(lambda row: row["health"] == "healthy")
        before = {each.name: each.running() for each in stages}
        passing = Stage(house, "passing", replicas=1)
        passing.deploy("v1")
        assert f"{shared}-passing" in networks_of(house)
        passing.close()
        with shop.load(), blog.load(slow=0):
            for each in stages:
                assert each.running() == before[each.name]  # nothing was restarted
            shop.deploy("v2")
            assert shared in networks_of(house)
            assert shop.service.oton("restart", "blog").returncode == 0
            blog.wait_live("v1")
        left = {f"{shared}-shop", f"{shared}-blog"}
        wait_for(lambda: networks_of(house) == left, 150, "what nothing is on any more is gone", look_s=1)


def put_on_one_network(house: Service) -> str:
    """Make every container of a stopped service anew on one network for all, as former versions did."""
    shared = house.environment["OTON_NETWORK"]
    with engine() as client:
        client.create_network(shared, driver="bridge", labels={"oton.instance": house.instance})
        for row in house.containers():
            seen = client.inspect_container(row["Id"])
            name, made = seen["Name"].lstrip("/"), json.loads(seen["Config"]["Labels"]["oton.made"])
            made["networks"] = [shared]
            labels = {**seen["Config"]["Labels"], "oton.made": json.dumps(made, separators=(",", ":"))}
            host = {**seen["HostConfig"], "NetworkMode": shared, "CapDrop": None}
            kept = {"Env", "Cmd", "ExposedPorts", "StopTimeout"} & seen["Config"].keys()
            body = {
                **{key: seen["Config"][key] for key in kept},
                "Image": seen["Image"],
                "Labels": labels,
                "HostConfig": host,
                "NetworkingConfig": {"EndpointsConfig": {shared: {"Aliases": [labels["oton.app"]]}}},
            }
            client.remove_container(row["Id"], force=True)
            client.start(client.create_container_from_config(body, name)["Id"])
        for network in client.networks(filters={"label": f"oton.instance={house.instance}"}):
            if network["Name"] != shared:
                client.remove_network(network["Id"])
    return shared


def networks_of(house: Service) -> set[str]:
    """Return the names of the service's networks."""
    with engine() as client:
        return {each["Name"] for each in client.networks(filters={"label": f"oton.instance={house.instance}"})}
