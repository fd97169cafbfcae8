"""Containers on a real engine: every field, nobody else's, and exactly one whatever reply is lost."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import docker
import pytest

from controller.errors import Refused, Retry, Stale
from tests.engine.kit import CHECKED, IMAGE, Bench, a_bench, image_id, unique, wait_for
from tests.engine.relay import Relay
from tests.parts.images import BACKEND_COMMAND

pytestmark = pytest.mark.engine

WEB = BACKEND_COMMAND


def inside(bench: Bench, container: str, *command: str) -> str:
    """Return what a command prints inside the container."""
    made = bench.client.exec_create(container, list(command))["Id"]
    return bench.client.exec_start(made).decode()


def get(address: str | None, port: int | None) -> bytes:
    with urllib.request.urlopen(f"http://{address}:{port}/bytes?n=3", timeout=2) as answer:
        return bytes(answer.read())


def test_every_field_of_the_container_part_works(bench: Bench, tmp_path: Any) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "seen").write_text("from the host")
    (tmp_path / "cert").write_text("secret file")
    extra, theirs = unique("oton-test-net"), unique("oton-test-vol")
    bench.client.create_network(extra)
    bench.client.create_volume(theirs)
    try:
        made = bench.engine.start(
            bench.plan(
                command=["sleep 3600"],
                entrypoint=["/bin/sh", "-c"],
                user="1000:1000",
                working_dir="/tmp",
                labels={"team": "a"},
                init=True,
                read_only=True,
                tmpfs=["/scratch:size=1M"],
                cap_drop=["ALL"],
                cap_add=["NET_RAW"],
                extra_hosts=["db.internal:10.1.2.3"],
                hostname="box",
                networks=[extra],
                shm_size="8M",
                ulimits={"nofile": {"soft": 100, "hard": 200}},
                environment={"GREETING": "hello", "MADE_BY": None},
                volumes=[
                    "data:/data",
                    f"{tmp_path}:/host:ro",
                    {"name": theirs, "external": True, "target": "/theirs"},
                ],
                resources={"cpus": 0.5, "memory": "64M", "pids": 50},
                stop_signal="SIGQUIT",
                stop_grace="3s",
                secret_values={"TOKEN": "s3cret"},
                files={"CERT": str(tmp_path / "cert")},
            )
        )
        seen = bench.client.inspect_container(made)
        host = seen["HostConfig"]
        assert inside(bench, made, "id", "-u").strip() == "1000"
        assert inside(bench, made, "pwd").strip() == "/tmp"
        environment = inside(bench, made, "env")
        assert "GREETING=hello" in environment
        assert "TOKEN=s3cret" in environment
        assert "MADE_BY" not in environment
        assert inside(bench, made, "hostname").strip() == "box"
        assert "10.1.2.3\tdb.internal" in inside(bench, made, "cat", "/etc/hosts")
        assert inside(bench, made, "cat", "/host/seen", "/run/secrets/CERT") == "from the hostsecret file"
        assert "Read-only" in inside(bench, made, "touch", "/nope")
        assert "Read-only" in inside(bench, made, "touch", "/host/nope")
        assert "size=1024k" in inside(bench, made, "grep", "/scratch", "/proc/mounts")
        # As soft limit an exec was once given the hard one: that is the engine's affair, so what was asked for is read.
        assert inside(bench, made, "sh", "-c", "ulimit -Hn").strip() == "200"
        limits = bench.client.inspect_container(made)["HostConfig"]["Ulimits"]
        assert {(each["Name"], each["Soft"], each["Hard"]) for each in limits} == {("nofile", 100, 200)}
        assert "init" in inside(bench, made, "cat", "/proc/1/cmdline")
        assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (500_000_000, 64 * 1024**2, 50)
        assert (host["ShmSize"], host["CapDrop"]) == (8 * 1024**2, ["ALL"])
        assert host["RestartPolicy"]["Name"] == "no"
        assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
        assert (seen["Config"]["StopSignal"], seen["Config"]["StopTimeout"]) == ("SIGQUIT", 3)
        assert seen["Config"]["Labels"]["team"] == "a"
        assert set(seen["NetworkSettings"]["Networks"]) == {bench.own, extra}
        volume = bench.client.inspect_volume(f"{bench.app}_data")
        assert volume["Labels"]["oton.instance"] == bench.instance
        (replica,) = bench.engine.observe(bench.app)
        assert replica.drift == ""
    finally:
        bench.clear()
        bench.client.remove_network(extra)
        bench.client.remove_volume(theirs)
        bench.client.remove_volume(f"{bench.app}_data")


def test_a_replica_answers_at_the_address_that_we_gave(bench: Bench) -> None:
    bench.engine.start(bench.plan(command=WEB, port=8000))
    (replica,) = bench.engine.observe(bench.app)
    assert wait_for(lambda: _try(replica.address, replica.port)) == b"xxx"
    seen = bench.client.inspect_container(replica.id)
    mine = seen["NetworkSettings"]["Networks"][bench.own]
    assert mine["IPAMConfig"]["IPv4Address"] == replica.address
    assert bench.app in mine["Aliases"]


def _try(address: str | None, port: int | None) -> bytes:
    try:
        return get(address, port)
    except OSError:
        return b""


def test_with_published_ports_it_answers_on_loopback() -> None:
    with a_bench(upstream="port") as bench:
        bench.engine.start(bench.plan(command=WEB, port=8000))
        (replica,) = bench.engine.observe(bench.app)
        assert replica.address == "127.0.0.1"
        assert replica.port != 8000
        assert wait_for(lambda: _try(replica.address, replica.port)) == b"xxx"
        (listed,) = bench.engine.observe_all()[bench.app]
        assert listed == replica


def test_a_stop_signal_is_the_containers_own(bench: Bench) -> None:
    script = 'trap "sleep 2; echo got QUIT; exit 7" QUIT; while true; do sleep 0.05; done'
    made = bench.engine.start(bench.plan(command=["sh", "-c", f"echo up; {script}"], stop_signal="SIGQUIT"))
    wait_for(lambda: bench.engine.tail(made) == ("up",))
    bench.engine.signal_stop(made)
    assert bench.engine.observe(bench.app)[0].state == "running", "nobody waits for the end"
    wait_for(lambda: bench.engine.observe(bench.app)[0].state == "exited")
    assert bench.engine.observe(bench.app)[0].exit_code == 7
    assert bench.engine.tail(made)[-1] == "got QUIT"


def test_a_health_command_becomes_the_containers_healthcheck(bench: Bench) -> None:
    health = {"command": "echo looking; test -f /tmp/good", "interval": "100ms", "failures": 1}
    made = bench.engine.start(bench.plan(health=health))
    sick = wait_for(lambda: [one for one in bench.engine.observe(bench.app) if one.health == "unhealthy"])
    assert sick[0].health_log == "looking"
    inside(bench, made, "touch", "/tmp/good")
    wait_for(lambda: bench.engine.observe(bench.app)[0].health == "healthy")


def test_an_images_own_healthcheck_is_known(bench: Bench) -> None:
    bench.engine.resolve(f"{bench.app}/1", CHECKED, "missing")
    assert bench.engine.resolutions(bench.app)[f"{bench.app}/1"].healthcheck
    bench.engine.start(bench.plan(image_id=image_id(CHECKED)))
    wait_for(lambda: bench.engine.observe(bench.app)[0].health == "healthy")


def test_an_out_of_memory_kill_is_told(bench: Bench) -> None:
    # tail buffers an endless line until the limit is reached.
    bench.engine.start(bench.plan(command=["tail", "/dev/zero"], resources={"memory": "8M"}))
    (dead,) = wait_for(lambda: [one for one in bench.engine.observe(bench.app) if one.state == "exited"])
    assert (dead.oom_killed, dead.exit_code) == (True, 137)


def test_strangers_of_the_same_name_are_never_touched(bench: Bench) -> None:
    app = unique("shop")
    foreign = {"oton.instance": "somebody-else", "oton.app": app, "oton.release": "1", "oton.replica": "1"}
    labels: list[dict[str, str]] = [foreign, {"oton.app": app}]
    made = []
    try:
        for number, each in enumerate(labels, 1):
            name = f"{app}-r1-1" if number == 1 else f"{app}-r1-1-{number}"
            made.append(bench.client.create_container(IMAGE, name=name, labels=each)["Id"])
            bench.client.start(made[-1])
        before = [bench.client.inspect_container(each)["State"] for each in made]
        ours = bench.engine.start(bench.plan(app))
        (replica,) = bench.engine.observe(app)
        assert (replica.id, replica.name) == (ours, f"{app}-r1-1-3")
        assert [one.id for one in bench.engine.observe_all()[app]] == [ours]
        engine = bench.engine
        for act in (engine.signal_stop, engine.kill, engine.remove, engine.restart, engine.tail, engine.logs):
            for each in made:
                with pytest.raises(Stale, match="not ours"):
                    act(each)
        for each in made:
            with pytest.raises(Stale, match="not ours"):
                engine.exec_stream(each, ["true"])
        assert [bench.client.inspect_container(each)["State"] for each in made] == before
    finally:
        for each in made:
            bench.client.remove_container(each, force=True)


def test_two_instances_do_not_see_each_other(bench: Bench) -> None:
    app = unique("shop")
    with a_bench(network=bench.network) as other:
        mine, theirs = bench.engine.start(bench.plan(app)), other.engine.start(other.plan(app))
        assert [one.id for one in bench.engine.observe(app)] == [mine]
        assert [one.id for one in other.engine.observe(app)] == [theirs]
        networks = other.client.inspect_container(theirs)["NetworkSettings"]["Networks"]
        assert list(networks) == [f"{bench.network}-{app}-2"]


@pytest.mark.parametrize(
    "lost", ["POST .*/containers/create", "POST .*/containers/[0-9a-f]+/start", "GET .*/containers/json"]
)
def test_a_lost_reply_to_a_start_leaves_exactly_one_container(bench: Bench, relay: Relay, lost: str) -> None:
    app = unique("shop")
    engine = bench.another(docker_host=relay.host)
    engine.observe(app)
    relay.lose_reply(lost)
    plan = bench.plan(app)
    with pytest.raises(Retry):
        engine.start(plan)
    made = engine.start(plan)
    assert engine.start(plan) == made
    listed = bench.client.containers(all=True, filters={"label": f"oton.app={app}"})
    assert [(one["Id"], one["State"]) for one in listed] == [(made, "running")]


def test_a_lost_reply_to_stop_and_remove_is_harmless(bench: Bench, relay: Relay) -> None:
    engine = bench.another(docker_host=relay.host)
    made = engine.start(bench.plan(init=True))
    relay.lose_reply("POST .*/kill")
    with pytest.raises(Retry):
        engine.signal_stop(made)
    wait_for(lambda: engine.observe(bench.app)[0].state == "exited")
    engine.signal_stop(made)
    relay.lose_reply("DELETE ")
    with pytest.raises(Retry):
        engine.remove(made)
    engine.remove(made)
    assert engine.observe(bench.app) == ()


def test_a_restart_of_ours_between_create_and_start_goes_on_with_that_container(bench: Bench, relay: Relay) -> None:
    extra = unique("oton-test-net")
    bench.client.create_network(extra)
    try:
        engine = bench.another(docker_host=relay.host)
        relay.lose_reply("POST .*/containers/create")
        plan = bench.plan(networks=[extra])
        with pytest.raises(Retry):
            engine.start(plan)
        (begun,) = bench.another().observe(bench.app)
        assert begun.state == "created"
        assert bench.another().start(plan) == begun.id
        joined = bench.client.inspect_container(begun.id)["NetworkSettings"]["Networks"]
        assert set(joined) == {bench.own, extra}
    finally:
        bench.clear()
        bench.client.remove_network(extra)


def test_an_address_that_somebody_else_took_is_passed_over(bench: Bench) -> None:
    bench.engine.start(bench.plan())
    (first,) = bench.engine.observe(bench.app)
    assert first.address is None or first.address  # the worker has no port
    mine = bench.client.inspect_container(first.id)["NetworkSettings"]["Networks"][bench.own]["IPAddress"]
    taken = f"{mine.rsplit('.', 1)[0]}.{int(mine.rsplit('.', 1)[1]) + 1}"
    endpoint = bench.client.create_endpoint_config(ipv4_address=taken)
    squatter = bench.client.create_container(
        IMAGE, networking_config=bench.client.create_networking_config({bench.own: endpoint})
    )["Id"]
    try:
        bench.client.start(squatter)
        with pytest.raises(Retry, match="address"):
            bench.engine.start(bench.plan(index=2))
        bench.engine.start(bench.plan(index=2))
        assert [one.state for one in bench.engine.observe(bench.app)] == ["running", "running"]
    finally:
        bench.client.remove_container(squatter, force=True)


def test_a_network_that_a_hand_removed_is_made_again() -> None:
    with a_bench() as bench:
        first = bench.engine.start(bench.plan())
        bench.engine.kill(first)
        wait_for(lambda: bench.engine.observe(bench.app)[0].state == "exited")
        bench.engine.remove(first)
        bench.client.remove_network(bench.own)

        def starts() -> bool:
            try:
                bench.engine.start(bench.plan())
            except (Retry, Stale):
                return False
            return True

        wait_for(starts)
        assert [one.state for one in bench.engine.observe(bench.app)] == ["running"]


@pytest.mark.parametrize("trouble", ["network removed", "address taken"])
def test_an_exited_container_is_started_again_though_its_place_is_gone(trouble: str) -> None:
    with a_bench() as bench:
        made = bench.engine.start(bench.plan(command=WEB, port=8000))
        (first,) = bench.engine.observe(bench.app)
        bench.engine.kill(made)
        wait_for(lambda: bench.engine.observe(bench.app)[0].state == "exited")
        if trouble == "network removed":
            bench.client.remove_network(bench.own)
        else:
            endpoint = bench.client.create_endpoint_config(ipv4_address=first.address)
            config = bench.client.create_networking_config({bench.own: endpoint})
            labels = {"oton.instance": bench.instance + "-squatter"}
            squatter = bench.client.create_container(IMAGE, labels=labels, networking_config=config)["Id"]
            bench.client.start(squatter)
        try:
            bench.engine.restart(made)
            (again,) = bench.engine.observe(bench.app)
            assert (again.id, again.state, again.drift) == (made, "running", "")
            assert wait_for(lambda: _try(again.address, again.port)) == b"xxx"
            seen = bench.client.inspect_container(made)["NetworkSettings"]["Networks"][bench.own]
            assert bench.app in seen["Aliases"]
        finally:
            if trouble == "address taken":
                bench.client.remove_container(squatter, force=True)


def test_an_unreachable_image_is_refused_with_the_way_out(bench: Bench) -> None:
    with pytest.raises(Refused, match=r"not on the engine any more.*oton retry shop-"):
        bench.engine.start(bench.plan(image_id="sha256:" + "9" * 64))
    assert bench.engine.observe(bench.app) == ()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"command": ["no-such-program"]}, r"no-such-program.*not found"),
        ({"command": ["/etc"]}, r"permission denied|is a directory"),
        ({"networks": ["oton-test-no-such-network"]}, "docker network create oton-test-no-such-network"),
        (
            {"volumes": [{"name": "oton-test-none", "external": True, "target": "/x"}]},
            "docker volume create oton-test-none",
        ),
        ({"user": "nobody-here"}, "nobody-here"),
    ],
)
def test_what_can_never_start_is_refused_in_words_and_leaves_nothing(
    bench: Bench, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(Refused, match=said) as caught:
        bench.engine.start(bench.plan(**fields))
    assert "OCI" not in str(caught.value)
    assert bench.engine.observe(bench.app) == ()


def test_a_strangers_volume_of_that_name_is_not_used_by_accident(bench: Bench) -> None:
    app = unique("shop")
    bench.client.create_volume(f"{app}_data")
    try:
        with pytest.raises(Refused, match="external: true"):
            bench.engine.start(bench.plan(app, volumes=["data:/data"]))
    finally:
        bench.client.remove_volume(f"{app}_data")


def test_volumes_outlive_their_containers_but_for_anonymous_ones(bench: Bench) -> None:
    app = unique("shop")
    made = bench.engine.start(bench.plan(app, volumes=["data:/data", "/scratch"]))
    mounts = bench.client.inspect_container(made)["Mounts"]
    (anonymous,) = [one["Name"] for one in mounts if one["Destination"] == "/scratch"]
    bench.engine.kill(made)
    wait_for(lambda: bench.engine.observe(app)[0].state == "exited")
    bench.engine.remove(made)
    assert bench.client.inspect_volume(f"{app}_data")
    with pytest.raises(docker.errors.NotFound):
        bench.client.inspect_volume(anonymous)
    bench.client.remove_volume(f"{app}_data")


def test_hands_on_changes_show_as_drift(bench: Bench) -> None:
    made = bench.engine.start(bench.plan(resources={"memory": "64M"}))
    assert bench.engine.observe(bench.app)[0].drift == ""
    bench.client.update_container(made, mem_limit=32 * 1024**2, memswap_limit=64 * 1024**2)
    engine = bench.another()
    assert engine.observe(bench.app)[0].drift == "memory limit 32M, made with 64M"
    bench.client.update_container(made, mem_limit=64 * 1024**2, memswap_limit=128 * 1024**2)
    bench.client.disconnect_container_from_network(made, bench.own)
    assert bench.another().observe(bench.app)[0].drift == f"not on network {bench.own}, made with it"


def test_what_was_made_is_noted_for_later_versions(bench: Bench) -> None:
    made = bench.engine.start(bench.plan(resources={"cpus": 0.5}))
    labels = bench.client.inspect_container(made)["Config"]["Labels"]
    assert json.loads(labels["oton.made"]) == {"NanoCpus": 500_000_000, "networks": [bench.own]}


def test_a_changed_name_is_seen_and_changes_nothing_else(bench: Bench) -> None:
    made = bench.engine.start(bench.plan())
    name = unique("renamed")
    bench.client.rename(made, name)
    assert bench.engine.start(bench.plan()) == made
    (seen,) = bench.engine.observe(bench.app)
    assert (seen.id, seen.name) == (made, name)


def test_after_a_restart_of_ours_an_exited_containers_address_is_not_given_away(bench: Bench, tmp_path: Any) -> None:
    first = bench.engine.start(bench.plan(f"{bench.app}-x", port=8000))
    (replica,) = bench.engine.observe(f"{bench.app}-x")
    bench.engine.kill(first)
    wait_for(lambda: bench.engine.observe(f"{bench.app}-x")[0].state == "exited")
    again = bench.another()  # which has no note of what it gave before, and would begin with the first address
    taken = [again._networks.place(f"{bench.app}-x").address for _ in range(250)]
    assert replica.address not in taken


def test_a_freed_address_is_not_given_next(tmp_path: Any) -> None:
    with a_bench(tmp_path) as bench:
        first = bench.engine.start(bench.plan())
        old = address_of(bench, first)
        bench.engine.kill(first)
        wait_for(lambda: bench.engine.observe(bench.app)[0].state == "exited")
        bench.engine.remove(first)
        bench.engine.observe_all()
        assert address_of(bench, bench.engine.start(bench.plan())) != old
        assert address_of(bench, bench.another().start(bench.plan(index=2))) != old


def address_of(bench: Bench, container: str) -> str:
    joined = bench.client.inspect_container(container)["NetworkSettings"]["Networks"]
    return str(joined[bench.own]["IPAMConfig"]["IPv4Address"])
