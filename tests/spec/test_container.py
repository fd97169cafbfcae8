"""The container part takes what Compose takes and means what Compose means."""

from __future__ import annotations

import pytest

from controller.spec.model import CONTAINER_FIELDS, AppSpec, SecretRef, Ulimit, Volume
from tests.spec.reading import problems_of, spec_of


def test_the_container_part_is_what_the_contract_lists():
    listed = (
        "image command entrypoint user working_dir labels init read_only tmpfs cap_add cap_drop extra_hosts hostname "
        "networks shm_size ulimits environment secrets volumes resources port stop_signal"
    )
    assert set(CONTAINER_FIELDS) == set(listed.split())
    assert set(CONTAINER_FIELDS) <= set(AppSpec.model_fields)


def test_environment_may_be_a_mapping_or_a_list():
    mapping = spec_of("environment: {A: x, B: 1.10, C: true, D: '', E: 0x1F, F: NO, G: null, 8080: x}")
    assert mapping.environment == {
        "A": "x",
        "B": "1.10",
        "C": "true",
        "D": "",
        "E": "0x1F",
        "F": "NO",
        "G": None,
        "8080": "x",
    }
    listed = spec_of("environment: [A=x, B=1=2, 'C=', D]")
    assert listed.environment == {"A": "x", "B": "1=2", "C": "", "D": None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("environment: [A=1, A=2]", "environment[1]: A is set twice"),
        ("environment: ['=x']", 'environment[0]: found "=x"'),
        ("environment: {A: [1]}", "environment.A: found a list, allowed: a string, number, true, false, or nothing"),
        ("environment: {'A=B': x}", "environment.A=B"),
        ("environment: hello", 'environment: found "hello", allowed: environment: a mapping, or a list of KEY=VALUE'),
        ("environment: [[A]]", "environment[0]: found a list"),
        ('environment: {A: "\\0"}', "a string without NUL"),
        ("labels: {oton.app: x}", 'labels.oton.app: found "x", allowed: labels that do not start with oton.'),
        ("labels: [oton.release=1]", "labels that do not start with oton."),
        ("user: true", 'user: found "true"'),
        ("user: 'a b'", 'user: found "a b", allowed: a user such as app, 1000 or 1000:1000'),
        ("working_dir: srv", 'working_dir: found "srv", allowed: an absolute path'),
        ("hostname: a_b!", "hostname: found"),
        ("stop_signal: 0", 'stop_signal: found "0", allowed: a signal such as SIGTERM'),
        ("stop_signal: 'kill it'", "stop_signal"),
        ("cap_add: [NET_ADMIN, '!']", 'cap_add[1]: found "!", allowed: a capability'),
        ("tmpfs: [run]", 'tmpfs[0]: found "run", allowed: an absolute path'),
        ("tmpfs: /", "tmpfs"),
        ("extra_hosts: [db]", 'extra_hosts[0]: found "db", allowed: HOST:ADDRESS'),
        ("extra_hosts: {db: nowhere}", 'extra_hosts.db: found "nowhere"'),
        ("networks: [host]", 'networks[0]: found "host", allowed: a user-defined network'),
        ("networks: {n: {aliases: [x]}}", "networks.n: found a mapping, allowed: nothing after a network's name"),
        ("shm_size: lots", 'shm_size: found "lots", allowed: a size such as 64K'),
        ("ulimits: {nofile: x}", 'ulimits.nofile: found "x", allowed: a mapping'),
        (
            "ulimits: {nofile: {soft: 5, hard: 1}}",
            'ulimits.nofile.soft: found "5", allowed: soft at most as large as hard',
        ),
        ("ulimits: {nofile: -2}", "ulimits.nofile"),
        ("resources: {memory: 1M}", 'resources.memory: found "1M", allowed: at least 6M'),
        ("resources: {cpus: 0}", 'resources.cpus: found "0", allowed: a number of cores above 0'),
        ("resources: {pids: 0}", 'resources.pids: found "0", allowed: at least 1'),
        ("secrets: ['1A']", "secrets[0].name: found"),
        ("secrets: [../etc]", "secrets[0]"),
    ],
)
def test_what_no_container_could_be_made_from_is_refused(text, expected):
    assert any(expected in problem for problem in problems_of(text)), problems_of(text)


@pytest.mark.parametrize(
    "image",
    [
        "a",
        "shop:1.4.2",
        "team/shop",
        "registry.test/team/shop:1",
        "localhost:5000/x",
        "[::1]:5000/x:y",
        "Registry.test:80/a_b__c-d.e:V1",
        "x@sha256:" + "0" * 64,
        "x:1@sha256:" + "a" * 64,
        "sha256:" + "f" * 64,
    ],
)
def test_image_references_of_all_kinds_are_taken(image):
    assert AppSpec(name="a", image=image).image == image


@pytest.mark.parametrize(
    "image",
    [
        "",
        "A",
        "a b",
        "a:",
        ":1",
        "a//b",
        "/a",
        "a/",
        "a:b:c",
        "a@sha256:1",
        "-a",
        "a:" + "x" * 129,
        "a" * 600,
        "a\n",
        "http://a/b",
    ],
)
def test_what_is_no_image_reference_is_refused(image):
    assert problems_of(f"image: {image!r}\nname: shop")


def test_signals_capabilities_and_users_have_one_form():
    spec = spec_of("stop_signal: term\ncap_add: [cap_net_admin]\ncap_drop: all\nuser: 1000:1000\n")
    assert (spec.stop_signal, spec.cap_add, spec.cap_drop, spec.user) == (
        "SIGTERM",
        ("NET_ADMIN",),
        ("ALL",),
        "1000:1000",
    )
    assert spec_of("user: 1000\nstop_signal: 9").user == "1000"


def test_limits_hosts_networks_and_secrets_have_short_and_long_forms():
    spec = spec_of(
        "ulimits: {nofile: 64, core: -1, nproc: {soft: 1, hard: -1}}\n"
        "extra_hosts: ['db:10.0.0.1', 'v6=[::1]', 'x:host-gateway']\n"
        "networks: {back: , front: {}}\nsecrets: [A, {name: B, file: true}]\ntmpfs: /run\n"
    )
    assert spec.ulimits == {
        "nofile": Ulimit(soft=64, hard=64),
        "core": Ulimit(soft=-1, hard=-1),
        "nproc": Ulimit(soft=1, hard=-1),
    }
    assert spec.extra_hosts == ("db:10.0.0.1", "v6:::1", "x:host-gateway")
    assert spec.networks == ("back", "front")
    assert spec.secrets == (SecretRef(name="A"), SecretRef(name="B", file=True))
    assert spec.tmpfs == ("/run",)


@pytest.mark.parametrize(
    ("written", "volume"),
    [
        ("data:/var/lib", Volume(source="data", target="/var/lib")),
        ("data:/var/lib:ro", Volume(source="data", target="/var/lib", read_only=True)),
        ("/srv:/srv:rw,Z", Volume(type="bind", source="/srv", target="/srv", options=("Z",))),
        ("/srv:/srv:cached", Volume(type="bind", source="/srv", target="/srv")),
        ("/cache", Volume(target="/cache")),
        ("{name: X, external: true, target: /x}", Volume(source="X", target="/x", external=True)),
        (
            "{source: data, target: /x, read_only: true}",
            Volume(source="data", target="/x", read_only=True),
        ),
        ("{source: /srv, target: /x}", Volume(type="bind", source="/srv", target="/x")),
        ("{type: volume, source: d, target: /x}", Volume(source="d", target="/x")),
    ],
)
def test_volumes_in_short_and_long_form(written, volume):
    text = written if written.startswith("{") else f"'{written}'"
    (found,) = spec_of(f"volumes: [{text}]").volumes
    assert found == volume


@pytest.mark.parametrize(
    "written",
    [
        "''",
        "data",
        "'data:'",
        "':/x'",
        "'data:x'",
        "'./x:/y'",
        "'~/x:/y'",
        "'../x:/y'",
        "'a:/b:ro:z'",
        "'a:/b:xx'",
        "'a:/b:rshared'",
        "'/a:/b:nocopy'",
        "'a:/'",
        "'/'",
        "'/a/../b:/c'",
        "5",
        "null",
        "{source: x}",
        "{name: X, target: /x}",
        "{name: X, source: Y, external: true, target: /x}",
        "{type: tmpfs, target: /x}",
        "{type: bind, source: x, target: /x}",
        "{source: /x, external: true, target: /y}",
        "{source: a, target: x}",
        "{source: a, target: /x, options: [ro]}",
        "{source: a, target: /x, options: [rshared]}",
    ],
)
def test_a_volume_that_could_mean_two_things_is_refused(written):
    assert problems_of(f"volumes: [{written}]")


def test_volumes_are_a_list():
    assert any("volumes: found a mapping, allowed: a list" in problem for problem in problems_of("volumes: {data: /x}"))
