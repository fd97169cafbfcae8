from __future__ import annotations

import pytest

from controller.spec.digest import digest_container, digest_spec
from controller.spec.model import CONTAINER_FIELDS
from tests.spec.reading import spec_of

IMAGE = "sha256:" + "0" * 64

EXAMPLES = {
    "image": "image: other:2",
    "command": "command: [x]",
    "entrypoint": "entrypoint: /init",
    "user": "user: app",
    "working_dir": "working_dir: /srv",
    "labels": "labels: {a: b}",
    "init": "init: true",
    "read_only": "read_only: true",
    "tmpfs": "tmpfs: /run",
    "cap_add": "cap_add: [NET_ADMIN]",
    "cap_drop": "cap_drop: [ALL]",
    "extra_hosts": "extra_hosts: ['a:1.2.3.4']",
    "hostname": "hostname: web",
    "networks": "networks: [back]",
    "shm_size": "shm_size: 64M",
    "ulimits": "ulimits: {nofile: 5}",
    "environment": "environment: {A: b}",
    "secrets": "secrets: [A]",
    "volumes": "volumes: ['a:/b']",
    "resources": "resources: {cpus: 2}",
    "port": "port: 80",
    "stop_signal": "stop_signal: SIGQUIT",
}
OUTSIDE = (
    "replicas: 5",
    "port: 8000\nroutes: [{host: a.test}]",
    "health: {interval: 2s, timeout: 5s, failures: 9, start_period: 1m}",
    "strategy: recreate",
    "deadline: 1m",
    "drain: 1s",
    "stop_grace: 1s",
    "bake: 1m",
    "pull: always",
    "before: {command: x}",
    "suspend: true",
    "proxy: {timeout: 1s, sticky: true}",
)


def test_every_field_of_the_container_part_has_an_example_here():
    assert set(EXAMPLES) == set(CONTAINER_FIELDS)


@pytest.mark.parametrize("field", CONTAINER_FIELDS)
def test_a_change_of_the_container_part_replaces_containers(field):
    assert digest_container(spec_of(EXAMPLES[field]), IMAGE) != digest_container(spec_of(""), IMAGE)


@pytest.mark.parametrize("text", OUTSIDE)
def test_a_change_outside_of_the_container_part_replaces_nothing(text):
    base = spec_of("port: 8000" if "port" in text else "")
    assert digest_spec(spec_of(text)) != digest_spec(base)
    assert digest_container(spec_of(text), IMAGE) == digest_container(base, IMAGE)


def test_a_health_command_is_baked_in_and_its_times_are_not():
    one = spec_of("health: {command: a}")
    assert digest_container(one, IMAGE) != digest_container(spec_of(""), IMAGE)
    assert digest_container(one, IMAGE) == digest_container(spec_of("health: {command: a, interval: 5s}"), IMAGE)


def test_image_id_secret_versions_and_restarts_replace_containers():
    spec = spec_of("secrets: [A]")
    digests = {
        digest_container(spec, IMAGE),
        digest_container(spec, "sha256:1"),
        digest_container(spec, IMAGE, [("A", 1)]),
        digest_container(spec, IMAGE, [("A", 2)]),
        digest_container(spec, IMAGE, [("A", 2)], restarts=1),
    }
    assert len(digests) == 5
    assert digest_container(spec, IMAGE, [("A", 1), ("B", 7)]) == digest_container(spec, IMAGE, [("A", 1)])


def test_other_ways_to_write_the_same_have_the_same_digest():
    one = spec_of(
        "environment: [A=1]\ncommand: run x\nreplicas: 1\ndeadline: 120s\nstrategy: {type: rolling, max_surge: 1}\nport: 1\nroutes: [{host: A.TEST.}]"
    )
    two = spec_of(
        "routes:\n  - {path: /, host: a.test}\nport: 1\ndeadline: 2m\ncommand: [run, x]\nenvironment:\n  A: 1 # one\n"
    )
    assert digest_spec(one) == digest_spec(two)


def test_strategies_with_nothing_but_defaults_differ():
    assert (
        len({digest_spec(spec_of(f"strategy: {word}")) for word in ("rolling", "blue_green", "canary", "recreate")})
        == 4
    )


def test_digests_stay_what_they_are_from_version_to_version():
    """Another digest here would replace every container of every user at an upgrade."""
    spec = spec_of(
        "port: 8000\nreplicas: 2\nenvironment: {A: b}\nresources: {cpus: 0.5, memory: 64M}\nroutes: [{host: a.test}]"
    )
    assert digest_spec(spec) == "5626dc37adca846ecca14461082a571cb3df2fa45f784f36219a267d586ecb84"
    assert digest_container(spec, "sha256:0") == "8d0e5280824704242132b0d4632bdbc04ea9a5d172dbd8c556ab002554709feb"
