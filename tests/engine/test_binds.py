"""No container gets a folder of the host by a path that somebody could have bent, nor one that is the service's own."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.engine.binds import Bind, Binds, Guarded, walk
from controller.errors import Refused
from tests.engine.kit import Bench, wait_for


@pytest.fixture
def area(tmp_path: Path) -> Path:
    """A folder of the host with the service's own things beside the apps' ones."""
    for each in ("apps/shop/data", "apps/blog", "oton/state/certificates", "oton/desired"):
        (tmp_path / each).mkdir(parents=True)
    (tmp_path / "oton/database.db").touch()
    (tmp_path / "oton/database.db-wal").touch()
    return tmp_path


def binds_in(area: Path) -> Binds:
    binds = Binds(lambda: f"unix://{area}/engine/docker.sock")
    binds.guarded = (
        Guarded(str(area / "oton/state"), "the service's state directory"),
        Guarded(str(area / "oton/database.db"), "the service's database", has_others_beside=True),
        Guarded(str(area / "oton/desired"), "the watched directory"),
    )
    return binds


def take(binds: Binds, *sources: Path | str | Bind, others: tuple[dict[str, Any], ...] = ()) -> None:
    wanted = [each if isinstance(each, Bind) else Bind(str(each)) for each in sources]
    with binds.judged_beside(wanted, lambda: others):
        pass


def a_container(*mounts: tuple[Path, bool], state: str = "running", kind: str = "bind") -> dict[str, Any]:
    rows = [{"Type": kind, "Source": str(source), "RW": writable} for source, writable in mounts]
    return {"Id": "c" * 64, "Names": ["/other-r1-1"], "State": state, "Mounts": rows}


def test_a_plain_folder_a_file_and_one_that_is_not_there_are_given(area: Path) -> None:
    (area / "apps/hosts").touch()
    take(binds_in(area), area / "apps/shop/data", area / "apps/hosts", area / "apps/new/one", "/etc/hosts")


@pytest.mark.parametrize("at", ["apps", "apps/shop", "apps/shop/data"])
@pytest.mark.parametrize("to", ["/", "oton/state", "apps/blog", "nowhere"])
def test_no_link_is_followed_wherever_in_the_path_and_wherever_it_leads(area: Path, at: str, to: str) -> None:
    shutil.rmtree(area / at)
    (area / at).symlink_to(area / to if to != "/" else "/")
    with pytest.raises(Refused, match=f"{area / at} is a symbolic link.*write the path without links"):
        take(binds_in(area), area / "apps/shop/data")


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("/", "the engine's socket"),
        ("/var/run", "the engine's socket"),
        ("/var", "the engine's socket"),
        ("//run/", "the engine's socket"),
        ("//", "the engine's socket"),
        ("/var/run/docker.sock", "the engine's socket"),
        ("/run/containerd/containerd.sock", "the engine's socket"),
        ("{area}/engine", "the engine's socket"),
        ("{area}/oton/state", "the service's state directory"),
        ("{area}/oton/state/", "the service's state directory"),
        ("{area}/oton/state/certificates", "the service's state directory"),
        ("{area}/oton/state/not/there/yet", "the service's state directory"),
        ("{area}/oton", "the service's state directory"),
        ("{area}", "socket|state"),
        ("{area}/oton/database.db", "the service's database"),
        ("{area}/oton/database.db-wal", "the service's database"),
        ("{area}/oton/desired", "the watched directory"),
        ("{area}/oton/desired/shop.yaml", "the watched directory"),
    ],
)
@pytest.mark.parametrize("writable", [True, False])
def test_what_is_the_services_own_is_never_given(area: Path, source: str, what: str, writable: bool) -> None:
    with pytest.raises(Refused, match=what):
        take(binds_in(area), Bind(source.format(area=area), writable))


def test_what_only_begins_with_the_same_letters_is_given(area: Path) -> None:
    take(binds_in(area), area / "oton/state-of-the-shop", area / "oton/desired.old")


def test_a_guarded_place_behind_a_link_of_ours_is_found(area: Path) -> None:
    (area / "shortcut").symlink_to(area / "oton")
    binds = Binds()
    binds.guarded = (Guarded(str(area / "shortcut/state"), "the service's state directory"),)
    for source in ("oton/state", "oton", "oton/state/certificates"):
        with pytest.raises(Refused, match="state directory"):
            take(binds, area / source)


@pytest.mark.parametrize(
    ("mine", "theirs", "verdict"),
    [
        (("apps/shop/data", True), ("apps/shop", True), "lies in"),
        (("apps/shop/data", False), ("apps", True), "lies in"),
        (("apps/shop/data", True), ("apps/shop", False), ""),
        (("apps/shop", True), ("apps/shop/data", True), "holds"),
        (("apps/shop", True), ("apps/shop/data", False), "holds"),
        (("apps/shop", False), ("apps/shop/data", True), ""),
        (("apps/shop", True), ("apps/shop", True), ""),
        (("apps/shop", True), ("apps/blog", True), ""),
    ],
)
@pytest.mark.parametrize("kind", ["bind", "volume"])
def test_a_path_that_a_container_can_bend_is_not_given(
    area: Path, mine: tuple[str, bool], theirs: tuple[str, bool], verdict: str, kind: str
) -> None:
    wanted = Bind(str(area / mine[0]), mine[1])
    other = a_container((area / theirs[0], theirs[1]), kind=kind)
    if not verdict:
        take(binds_in(area), wanted, others=(other,))
        return
    with pytest.raises(Refused, match=rf"{verdict} .*other-r1-1"):
        take(binds_in(area), wanted, others=(other,))
    take(binds_in(area), wanted, others=({**other, "State": "exited"},))  # it cannot write while it does not run


def test_binds_of_one_spec_are_not_nested_either(area: Path) -> None:
    with pytest.raises(Refused, match="the same app"):
        take(binds_in(area), area / "apps/shop", area / "apps/shop/data")
    take(binds_in(area), Bind(str(area / "apps/shop"), is_writable=False), area / "apps/shop/data")


@pytest.mark.parametrize("swap", ["link", "other folder", "gone"])
def test_a_path_that_changes_while_the_engine_takes_it_is_told(area: Path, swap: str) -> None:
    def bend() -> None:
        (area / "apps/shop").rename(area / "apps/away")
        if swap == "link":
            (area / "apps/shop").symlink_to(area / "apps/away")
        elif swap == "other folder":
            (area / "apps/shop/data").mkdir(parents=True)

    with (
        pytest.raises(Refused, match=r"symbolic link|was replaced"),
        binds_in(area).judged([Bind(str(area / "apps/shop/data"))]),
    ):
        bend()


def test_the_engine_making_a_missing_folder_is_no_change(area: Path) -> None:
    with binds_in(area).judged([Bind(str(area / "apps/new/one"))]):
        (area / "apps/new/one").mkdir(parents=True)


def test_of_an_engine_elsewhere_only_names_count(area: Path) -> None:
    far = Binds(lambda: "tcp://10.0.0.9:2376")
    (area / "link").symlink_to("/")
    take(far, area / "link", area / "oton/state")
    for source in ("/var/run/docker.sock", "//run//docker.sock", "/var/run/", "/"):
        with pytest.raises(Refused, match="engine's socket"):
            take(far, source)


@pytest.mark.parametrize("source", ["/proc/self/root/etc", "/dev/fd/0", "/proc/self/fd/1"])
def test_the_kernels_own_links_lead_nowhere_either(area: Path, source: str) -> None:
    with pytest.raises(Refused, match="symbolic link"):
        take(binds_in(area), source)


def test_nothing_stays_open(area: Path) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = opened()
    for _ in range(20):
        take(binds_in(area), area / "apps/shop/data", "/etc/hosts", area / "not/there")
        with pytest.raises(Refused):
            take(binds_in(area), area / "oton/state")
    assert opened() == before


def test_a_socket_or_a_pipe_as_the_last_part_is_looked_at_and_not_opened(area: Path) -> None:
    os.mkfifo(area / "apps/pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(area / "apps/s"))
        take(binds_in(area), area / "apps/pipe", area / "apps/s")
        take(binds_in(area), area / "apps/s/below")


names = st.sampled_from(["a", "b", "c"])
steps = st.lists(
    st.tuples(st.sampled_from(["folder", "link"]), st.lists(names, min_size=1, max_size=3), names), max_size=8
)


@settings(max_examples=150)
@given(steps, st.lists(names, min_size=1, max_size=3))
def test_where_a_walk_comes_out_is_where_the_kernel_does(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[str, list[str], str]], asked: list[str]
) -> None:
    top = tmp_path_factory.mktemp("walk", numbered=True)
    for what, parts, target in made:
        place = top.joinpath(*parts)
        try:
            if what == "folder":
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.symlink_to(top / target)
        except OSError:
            continue
    source = top.joinpath(*asked)
    with ExitStack() as held:
        try:
            found = walk(str(source), held)
        except Refused:
            assert any(each.is_symlink() for each in (source, *source.parents))
        else:
            assert str(found.path) == os.path.realpath(source) == str(source)
            assert found.is_whole == source.exists()
    shutil.rmtree(top)


@pytest.mark.engine
def test_an_exited_container_whose_folder_became_a_link_is_not_started_again(bench: Bench, area: Path) -> None:
    own = area / "apps/shop"
    made = bench.engine.start(bench.plan(volumes=[f"{own}:/own"]))
    bench.engine.kill(made)
    wait_for(lambda: bench.engine.observe(bench.app)[0].state == "exited")
    shutil.rmtree(own)
    own.symlink_to("/")
    with pytest.raises(Refused, match="symbolic link"):
        bench.engine.restart(made)
    assert bench.engine.observe(bench.app)[0].state == "exited"
    with pytest.raises(Refused, match="symbolic link"):
        bench.engine.start(bench.plan(index=2, volumes=[f"{own}:/own"]))
    own.unlink()
    own.mkdir()
    bench.engine.restart(made)
    assert bench.engine.observe(bench.app)[0].state == "running"


@pytest.mark.engine
def test_a_link_that_is_put_there_during_the_start_ends_the_container(
    bench: Bench, area: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = area / "apps/shop"
    plan = bench.plan(volumes=[f"{own}:/own"])
    start = bench.engine._containers._start

    def bend(container: str, name: str) -> None:
        own.rename(area / "apps/away")
        own.symlink_to("/")
        start(container, name)

    monkeypatch.setattr(bench.engine._containers, "_start", bend)
    with pytest.raises(Refused, match="symbolic link"):
        bench.engine.start(plan)
    assert not [one for one in bench.another().observe(bench.app) if one.state == "running"]


@pytest.mark.engine
def test_two_apps_cannot_have_folders_one_in_the_other(bench: Bench, area: Path) -> None:
    outer, inner = f"{bench.app}-a", f"{bench.app}-b"
    bench.engine.start(bench.plan(outer, volumes=[f"{area / 'apps'}:/apps"]))
    with pytest.raises(Refused, match=rf"lies in .*{outer}-r1-1"):
        bench.engine.start(bench.plan(inner, volumes=[f"{area / 'apps/blog'}:/blog"]))
    with pytest.raises(Refused, match="no container ever gets"):
        bench.engine.start(bench.plan(inner, volumes=["/:/host:ro"]))
    assert bench.engine.observe(inner) == ()


@pytest.mark.engine
def test_a_one_off_of_a_person_is_judged_too(bench: Bench, area: Path) -> None:
    (area / "apps/way").symlink_to("/")
    with pytest.raises(Refused, match="symbolic link"):
        bench.engine.run_oneoff(bench.plan(kind="run", volumes=[f"{area / 'apps/way'}:/way"]))
