"""A plan as Docker's create request, and an inspection as a replica; no engine is needed."""

from __future__ import annotations

import pytest

from controller.engine.reading import clean_lines, read_replica, read_summary, read_time
from controller.engine.translate import Place, container_name, render_container
from tests.engine.kit import a_plan

HERE = Place(network="oton", address="10.9.0.7")
ALL_LIMITS = frozenset({"Memory", "NanoCpus", "PidsLimit"})


def test_names_follow_the_contract():
    assert container_name(a_plan(release=4, index=2)) == "shop-r4-2"
    assert container_name(a_plan(release=4, kind="before")) == "shop-r4-before"
    assert container_name(a_plan(release=4, index=2), 3) == "shop-r4-2-3"


def test_every_field_of_the_container_part_reaches_the_engine():
    plan = a_plan(
        release=7,
        index=2,
        command=["serve", "--fast"],
        entrypoint=["/entry"],
        user="1000:1000",
        working_dir="/srv",
        labels={"team": "a"},
        init=True,
        read_only=True,
        tmpfs=["/run:size=64M", "/tmp"],
        cap_add=["NET_ADMIN"],
        cap_drop=["ALL"],
        extra_hosts=["db:10.0.0.9"],
        hostname="box",
        networks=["backend"],
        shm_size="64M",
        ulimits={"nofile": {"soft": 1024, "hard": 2048}},
        environment={"A": "1", "GONE": None},
        volumes=["data:/data", "/etc/hosts:/hosts:ro", {"name": "theirs", "external": True, "target": "/x"}, "/anon"],
        resources={"cpus": 0.5, "memory": "64M", "pids": 100},
        port=8000,
        stop_signal="SIGQUIT",
        stop_grace="25s",
        health={"command": "check me", "interval": "5s", "timeout": "1s", "failures": 4, "start_period": "10s"},
        secret_values={"TOKEN": "s3cret"},
        files={"CERT": "/state/secrets/cert"},
    )
    made = render_container(plan, "inst", HERE)
    host = made["HostConfig"]
    assert made["Image"] == plan.release.image_id
    assert (made["Cmd"], made["Entrypoint"]) == (["serve", "--fast"], ["/entry"])
    assert (made["User"], made["WorkingDir"], made["Hostname"], made["StopSignal"]) == (
        "1000:1000",
        "/srv",
        "box",
        "SIGQUIT",
    )
    assert made["StopTimeout"] == 25
    assert made["Env"] == ["A=1", "GONE", "TOKEN=s3cret"]
    assert made["ExposedPorts"] == {"8000/tcp": {}}
    assert made["Healthcheck"] == {
        "Test": ["CMD-SHELL", "check me"],
        "Interval": 5_000_000_000,
        "Timeout": 1_000_000_000,
        "Retries": 4,
        "StartPeriod": 10_000_000_000,
    }
    assert host["Binds"] == [
        "shop_data:/data:rw",
        "/etc/hosts:/hosts:ro",
        "theirs:/x:rw",
    ]
    assert host["Mounts"] == [
        {"Type": "volume", "Target": "/anon", "ReadOnly": False},
        {"Type": "bind", "Source": "/state/secrets/cert", "Target": "/run/secrets/CERT", "ReadOnly": True},
    ]
    assert host["Tmpfs"] == {"/run": "size=64M", "/tmp": ""}
    assert (host["CapAdd"], host["CapDrop"], host["ExtraHosts"]) == (["NET_ADMIN"], ["ALL"], ["db:10.0.0.9"])
    assert (host["Init"], host["ReadonlyRootfs"], host["ShmSize"]) == (True, True, 64 * 1024**2)
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 1024, "Hard": 2048}]
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (500_000_000, 64 * 1024**2, 100)
    assert host["RestartPolicy"] == {"Name": "no"}
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
    assert host["NetworkMode"] == "oton"
    assert "PortBindings" not in host
    assert made["NetworkingConfig"]["EndpointsConfig"] == {
        "oton": {"Aliases": ["shop"], "IPAMConfig": {"IPv4Address": "10.9.0.7"}}
    }
    ours = {key: value for key, value in made["Labels"].items() if key != "oton.made"}
    assert ours == {
        "team": "a",
        "oton.instance": "inst",
        "oton.app": "shop",
        "oton.release": "7",
        "oton.replica": "2",
        "oton.spec": "digest-7",
        "oton.port": "8000",
    }


def test_what_is_not_given_is_left_to_image_and_engine():
    made = render_container(a_plan(), "inst", HERE)
    absent = {"Cmd", "Entrypoint", "User", "WorkingDir", "Hostname", "StopSignal", "Healthcheck", "ExposedPorts"}
    assert not absent & made.keys()
    assert not {"Memory", "NanoCpus", "PidsLimit", "Init", "CapAdd", "Tmpfs"} & made["HostConfig"].keys()


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({}, ["NET_RAW"]),
        ({"cap_add": ["NET_ADMIN"]}, ["NET_RAW"]),
        ({"cap_add": ["CAP_NET_RAW"]}, None),
        ({"cap_add": ["net_raw"], "cap_drop": ["ALL"]}, ["ALL"]),
        ({"cap_add": ["ALL"]}, None),
        ({"cap_drop": ["CHOWN"]}, ["CHOWN", "NET_RAW"]),
        ({"cap_drop": ["NET_RAW"]}, ["NET_RAW"]),
        ({"cap_add": ["ALL"], "cap_drop": ["NET_RAW"]}, ["NET_RAW"]),
    ],
)
@pytest.mark.parametrize("kind", ["replica", "before", "run"])
def test_no_container_can_forge_frames_unless_its_spec_asks_for_it(fields, dropped, kind):
    made = render_container(a_plan(kind=kind, **fields), "inst", HERE)
    assert made["HostConfig"].get("CapDrop") == dropped


def test_one_that_was_moved_is_reached_where_it_is_now():
    seen = replica(NetworkSettings__Networks={"backend": {"IPAddress": "10.1.0.1"}, "own": {"IPAddress": "10.8.0.7"}})
    assert (seen.address, seen.drift) == ("10.8.0.7", "not on network oton, made with it")


def test_without_an_address_of_ours_the_port_is_published_on_loopback_alone():
    made = render_container(a_plan(port=8000), "inst", Place(network="oton", address=None))
    assert made["HostConfig"]["PortBindings"] == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    assert "IPAMConfig" not in made["NetworkingConfig"]["EndpointsConfig"]["oton"]


def test_a_one_off_has_its_own_command_and_neither_alias_nor_port_nor_health():
    plan = a_plan(kind="before", port=8000, command_instead=("migrate",), health={"command": "x"})
    made = render_container(plan, "inst", Place(network="oton", address=None))
    assert made["Cmd"] == ["migrate"]
    assert made["Labels"]["oton.kind"] == "before"
    assert made["Healthcheck"] == {"Test": ["NONE"]}
    assert "PortBindings" not in made["HostConfig"]
    assert made["NetworkingConfig"]["EndpointsConfig"]["oton"]["Aliases"] == []


def test_an_emptied_entrypoint_clears_the_images():
    assert render_container(a_plan(entrypoint=[]), "inst", HERE)["Entrypoint"] == [""]


def inspected(**changes):
    """Return an inspection of a running replica made from a plan with limits."""
    plan = a_plan(port=8000, resources={"memory": "128M", "cpus": 1.5, "pids": 50}, networks=["backend"])
    made = render_container(plan, "inst", HERE)
    seen = {
        "Id": "f" * 64,
        "Name": "/shop-r1-1",
        "Image": "sha256:1",
        "Created": "2026-03-01T10:00:00.123456789Z",
        "State": {
            "Status": "running",
            "StartedAt": "2026-03-01T10:00:01.5Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
            "ExitCode": 0,
            "OOMKilled": False,
            "Error": "",
        },
        "Config": {"Labels": made["Labels"]},
        "HostConfig": {**made["HostConfig"]},
        "NetworkSettings": {
            "Networks": {"oton": {"IPAddress": "10.9.0.7", "IPAMConfig": None}, "backend": {"IPAddress": "10.1.0.1"}},
            "Ports": {"8000/tcp": None},
        },
    }
    for path, value in changes.items():
        place, *keys, last = seen, *path.split("__")
        for key in keys:
            place = place[key]
        place[last] = value
    return seen


def replica(**changes):
    return read_replica(inspected(**changes), can_limit=ALL_LIMITS)


def test_an_inspection_tells_where_and_since_when_it_runs():
    seen = replica()
    assert (seen.address, seen.port, seen.state, seen.exit_code) == ("10.9.0.7", 8000, "running", None)
    assert seen.started - seen.created == pytest.approx(1.376544, abs=1e-4)
    assert (seen.finished, seen.drift, seen.health) == (0.0, "", "none")


def test_a_published_port_is_the_address():
    seen = replica(NetworkSettings__Ports={"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}]})
    assert (seen.address, seen.port) == ("127.0.0.1", 49153)


def test_one_that_does_not_run_has_no_address_but_an_exit_code():
    seen = replica(State__Status="exited", State__ExitCode=137, State__OOMKilled=True)
    assert (seen.address, seen.state, seen.exit_code, seen.oom_killed) == (None, "exited", 137, True)


def test_a_failed_start_tells_why():
    seen = replica(State__Status="created", State__Error="exec: nope:\n not found")
    assert (seen.state, seen.exit_code, seen.error) == ("created", None, "exec: nope: not found")


def test_the_last_word_of_the_health_check_is_kept():
    log = [{"Output": "old"}, {"Output": "first\n\x1b[31mno database\x1b[0m\n"}]
    seen = replica(State__Health={"Status": "unhealthy", "Log": log})
    assert (seen.health, seen.health_log) == ("unhealthy", "no database")


@pytest.mark.parametrize(
    ("changes", "drift"),
    [
        ({"HostConfig__Memory": 64 * 1024**2}, "memory limit 64M, made with 128M"),
        ({"HostConfig__Memory": 0}, "memory limit none, made with 128M"),
        ({"HostConfig__NanoCpus": 500_000_000}, "CPU limit 0.5, made with 1.5"),
        ({"HostConfig__PidsLimit": 10}, "process limit 10, made with 50"),
        ({"HostConfig__PidsLimit": None}, "process limit none, made with 50"),
        (
            {"HostConfig__RestartPolicy": {"Name": "always"}},
            "restart policy always, made with no: we alone restart containers",
        ),
        ({"NetworkSettings__Networks": {"backend": {}}}, "not on network oton, made with it"),
        ({"NetworkSettings__Networks": {"oton": {}}}, "not on network backend, made with it"),
        ({"HostConfig__RestartPolicy": {"Name": ""}}, ""),
    ],
)
def test_what_a_hand_changed_is_told(changes, drift):
    assert replica(**changes).drift == drift


def test_a_limit_that_the_engine_cannot_enforce_is_no_drift():
    seen = read_replica(inspected(HostConfig__Memory=0), can_limit=frozenset({"NanoCpus", "PidsLimit"}))
    assert seen.drift == ""


def test_without_limits_the_engines_ways_to_say_none_are_no_drift():
    plain = render_container(a_plan(), "inst", HERE)
    for none in (None, 0, -1):
        seen = inspected(HostConfig={**plain["HostConfig"], "PidsLimit": none}, Config={"Labels": plain["Labels"]})
        assert read_replica(seen, can_limit=ALL_LIMITS).drift == ""


def test_the_list_alone_is_enough_in_need():
    labels = render_container(a_plan(port=8000), "inst", HERE)["Labels"]
    listed = {
        "Id": "f" * 64,
        "Names": ["/shop-r1-1"],
        "ImageID": "sha256:1",
        "Labels": labels,
        "State": "exited",
        "Status": "Exited (3) 2 seconds ago",
        "Created": 1_700_000_000,
        "NetworkSettings": {"Networks": {"oton": {"IPAddress": ""}}},
        "Ports": [],
    }
    seen = read_summary(listed)
    assert (seen.state, seen.exit_code, seen.address, seen.release, seen.name) == ("exited", 3, None, 1, "shop-r1-1")
    networks = {"backend": {"IPAddress": "10.1.0.1"}, "oton": {"IPAddress": "10.9.0.7"}}
    running = read_summary(
        {
            **listed,
            "State": "running",
            "HostConfig": {"NetworkMode": "oton"},
            "NetworkSettings": {"Networks": networks},
        }
    )
    assert (running.address, running.port) == ("10.9.0.7", 8000)


def test_nonsense_in_a_label_is_survived():
    labels = {
        **inspected()["Config"]["Labels"],
        "oton.release": "x",
        "oton.replica": "",
        "oton.made": "{",
        "oton.port": "?",
    }
    seen = read_replica(inspected(Config__Labels=labels), can_limit=ALL_LIMITS)
    assert (seen.release, seen.index, seen.port, seen.drift) == (0, 0, None, "")


def test_times_of_the_engine():
    assert read_time("2026-03-01T10:00:00Z") == 1772359200.0
    assert read_time("2026-03-01T12:00:00.5+02:00") == 1772359200.5
    assert (read_time(""), read_time("0001-01-01T00:00:00Z"), read_time("soon")) == (0.0, 0.0, 0.0)


def test_output_is_made_safe_for_a_terminal():
    text = "plain\n\x1b[1;31mred\x1b[0m\ttab\r\n\x1b]0;title\x07bell\x07\n\n" + "x" * 600
    assert clean_lines(text) == ("plain", "red\ttab", "bell", "x" * 500)
