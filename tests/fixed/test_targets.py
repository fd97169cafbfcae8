"""Who may be the target of a fixed route."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.errors import Refused
from controller.fixed.own import container_networks
from controller.fixed.targets import Fence, read_target

FENCE = Fence(own_ports=frozenset({3000, 3080, 2375}), containers=("172.17.0.0/16",))


@pytest.mark.parametrize(
    ("address", "port", "is_ours", "says"),
    [
        ("10.0.0.7", 8080, False, ""),
        ("8.8.8.8", 80, False, ""),
        ("10.0.0.7", 3000, False, ""),
        ("10.0.0.5", 3000, True, "the service's own"),
        ("10.0.0.5", 2375, True, "the engine's"),
        ("127.0.0.1", 3080, True, "the service's own"),
        ("127.0.0.1", 9000, True, "loopback"),
        ("::1", 9000, True, "loopback"),
        ("::ffff:127.0.0.1", 9000, True, "loopback"),
        ("172.17.0.4", 9000, False, "a container"),
        ("169.254.169.254", 80, False, "never a target"),
        ("fe80::1", 80, False, "never a target"),
        ("224.0.0.1", 80, False, "never a target"),
        ("0.0.0.0", 80, False, "never a target"),
        ("fd00:ec2::254", 80, False, "never a target"),
        ("fd00:ec2::23", 80, False, "never a target"),
        ("fd20:ce::254", 80, False, "never a target"),
        ("fd00:42::42", 80, False, "never a target"),
        ("100.100.100.200", 80, False, "never a target"),
        ("::ffff:100.100.100.200", 80, False, "never a target"),
        ("168.63.129.16", 80, False, "never a target"),
        ("192.0.0.192", 80, False, "never a target"),
        ("64:ff9b::a9fe:a9fe", 80, False, "never a target"),
        ("64:ff9b::6464:64c8", 80, False, "never a target"),
        ("64:ff9b:1::a9fe:a9fe", 80, False, "never a target"),
        ("2002:a9fe:a9fe::1", 80, False, "never a target"),
        ("::a9fe:a9fe", 80, False, "never a target"),
        ("fe80::1%eth0", 80, False, "never a target"),
        ("fd12:3456::1", 80, False, ""),
        ("100.100.100.201", 80, False, ""),
    ],
)
def test_an_address_is_judged_where_the_name_leads_now(address: str, port: int, says: str, *, is_ours: bool) -> None:
    why = FENCE.refuse("legacy.internal", port, address, is_ours=is_ours)
    assert (says in why) if says else why == ""


@pytest.mark.parametrize("allowed", ["127.0.0.0/8", "legacy.internal", "legacy.internal:9000"])
def test_loopback_is_open_to_what_the_server_allows(allowed: str) -> None:
    fence = Fence(own_ports=FENCE.own_ports, allowed=(allowed,))
    assert fence.refuse("legacy.internal", 9000, "127.0.0.1", is_ours=True) == ""
    assert fence.refuse("legacy.internal", 3080, "127.0.0.1", is_ours=True) != ""


def test_an_allowed_name_with_a_port_opens_no_other_port() -> None:
    fence = Fence(allowed=("legacy.internal:9000",))
    assert fence.refuse("legacy.internal", 9001, "127.0.0.1", is_ours=True) != ""


@pytest.mark.parametrize("text", ["", "host", "host:", ":80", "host:0", "host:65536", "host:http", "a" * 300 + ":80"])
def test_a_target_that_is_none_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(Refused, match="host:port"):
        read_target(text)


def test_a_target_is_read_as_host_and_port() -> None:
    assert read_target("10.0.0.7:8080") == ("10.0.0.7", 8080)
    assert read_target("[2001:db8::1]:80") == ("2001:db8::1", 80)


def test_container_networks_are_those_of_the_bridges(tmp_path: Path) -> None:
    place = tmp_path / "route"
    head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    rows = "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    rows += "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    rows += "br-abc\t0000960A\t00000000\t0001\t0\t0\t0\t00F0FFFF\t0\t0\t0\n"
    place.write_text(head + rows)
    assert container_networks(place) == ("10.150.0.0/255.255.240.0", "172.17.0.0/255.255.0.0")
    assert container_networks(tmp_path / "none") == ()
