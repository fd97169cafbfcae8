"""Every receiving end: whatever arrives, the receiver lives and others are served; who said it is sent away."""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.control import Control, Roster
from controller.inspection import Inspection
from controller.proxy.birth import Birth
from controller.proxy.feed import Feed
from controller.proxy.inspector.desk import Desk
from controller.proxy.lease import Lease
from controller.proxy.nursery import _Nursery
from controller.publisher import Publisher
from controller.routing.table import AppRoutes, Policy, Table
from controller.settings import load_settings
from controller.supervisor.inspecting import Inspector
from controller.supervisor.nursing import Inheritance
from controller.supervisor.programs import Child, Programs
from controller.supervisor.sockets import Public
from controller.supervisor.supervise import Supervisor
from controller.wire.codec import render_line
from controller.wire.lines import LineSocket
from tests.parts.garbage import ENDLESS, HUGE, UNREADABLE, streams
from tests.publisher.fakes import FakeWorker, publishing, routes, until

few = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def lines(*messages: object) -> list[tuple[str, bytes]]:
    return [(json.dumps(one)[:60], json.dumps(one).encode() + b"\n") for one in messages]


def cases(*messages: object) -> Any:
    named = [*UNREADABLE.items(), *lines(*messages)]
    return pytest.mark.parametrize("line", [line for _, line in named], ids=[name for name, _ in named])


# The controller's end of the feed


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Publisher, list[int]]]:
    state = tmp_path_factory.mktemp("feed")
    killed: list[int] = []
    with publishing(state, kill=killed.append) as publisher:
        publisher.set_roster([1, 2])
        good = FakeWorker(state, 1)
        publisher.publish("shop", routes("shop", "a", draining=("b",)))
        yield state, publisher, killed
        good.close()


def good_goes_on(state: Path, publisher: Publisher) -> None:
    """Worker 1 is served and everything that is asked of the publisher is answered, whatever worker 2 said."""
    publisher.counters()
    publisher.set_roster([1])
    publisher.publish("blog", routes("blog", os.urandom(4).hex()))
    until(publisher.is_current, "worker 1 confirms")
    publisher.routing("shop")
    publisher.set_roster([1, 2])


ROW = {"app": "shop", "release": 1, "class": 2, "count": 1, "seconds": 0.5, "buckets": [1]}


@cases(
    {"confirm": "x"}, {"confirm": -1}, {"confirm": True}, {"confirm": None}, {"confirm": 10**6}, {"confirm": HUGE},
    {"kind": "drained"}, {"kind": "drained", "app": ["shop"], "upstream": "b", "version": 1},
    {"kind": "drained", "app": 5, "upstream": "b", "version": 1}, {"kind": "refused", "upstream": {}},
    {"kind": "drained", "app": "shop", "upstream": "b", "version": 1e300}, {"kind": "limit", "app": None},
    {"kind": "meters", "counters": []}, {"kind": "meters", "counters": {"lag_s": HUGE}},
    {"kind": "meters", "counters": {"requests": 5}}, {"kind": "meters", "counters": {"requests": [ROW | {"app": []}]}},
    {"kind": "meters", "counters": {"requests": [ROW | {"buckets": [1, 2, 3]}]}},
    {"kind": "meters", "counters": {"requests": [ROW | {"buckets": 7}]}},
    {"kind": "meters", "counters": {"requests": [ROW | {"count": "1"}]}},
    {"kind": "meters", "counters": {"active": [{"app": "shop", "requests": 1, "held": -5}]}},
    {"kind": "meters", "counters": {"connections": 0.5}}, {"hello": {"worker": 1, "version": 0}},
    {"table": []}, {"table": {"format": 1, "version": "x", "apps": {}}},
)  # fmt: skip
def test_a_worker_that_says_what_cannot_be_read_costs_itself_alone(
    feed: tuple[Path, Publisher, list[int]], line: bytes
) -> None:
    state, publisher, killed = feed
    killed.clear()
    bad = FakeWorker(state, 2)
    until(bad.pushes)
    with suppress(OSError):
        bad._sock.sendall(line)
    until(lambda: not bad._thread.is_alive(), "it was not sent away")
    until(lambda: killed == [2], "nobody had it killed")
    bad.close()
    good_goes_on(state, publisher)


@pytest.mark.parametrize(
    "hello",
    [
        5, {}, {"worker": "2", "version": 0}, {"worker": 2}, {"worker": 2, "version": 0, "first": "x"},
        {"worker": 2, "version": 0, "drained": [1]}, {"worker": 2, "version": 0, "drained": {"a": 1}},
        {"worker": 2, "version": 0, "drained": [{"app": [], "upstream": "a", "version": 1}]},
    ],
)  # fmt: skip
def test_who_registers_with_anything_but_numbers_is_not_registered(
    feed: tuple[Path, Publisher, list[int]], hello: object
) -> None:
    state, publisher, _ = feed
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(state / "proxy" / "feed.sock"))
        sock.sendall(render_line({"hello": hello}))
        assert sock.recv(1) == b""
    good_goes_on(state, publisher)


def test_a_line_of_a_worker_that_never_ends_is_not_kept(feed: tuple[Path, Publisher, list[int]]) -> None:
    state, publisher, killed = feed
    killed.clear()
    bad = FakeWorker(state, 2)
    with suppress(OSError):
        for _ in range(40):
            bad._sock.sendall(ENDLESS)
    until(lambda: killed == [2])
    bad.close()
    good_goes_on(state, publisher)


def test_a_worker_that_asks_for_everything_again_and_again_is_answered_once(tmp_path: Path) -> None:
    with publishing(tmp_path) as publisher:
        publisher.set_roster([1])
        publisher.publish_many({f"app{n}": routes(f"app{n}", "x" * 200) for n in range(500)})
        bad = FakeWorker(tmp_path, 1)
        bad._sock.sendall(render_line({"behind": 0}) * 5_000)
        publisher.publish("shop", routes("shop", "a"))
        until(publisher.is_current, "it is served like the others")
        assert len([push for push in bad.pushes() if push["base"] is None]) <= 3
        bad.close()


@few
@given(streams)
def test_whatever_a_worker_says_the_publisher_serves_the_others(
    feed: tuple[Path, Publisher, list[int]], stream: bytes
) -> None:
    state, publisher, _ = feed
    bad = FakeWorker(state, 2, mute=True)
    with suppress(OSError):
        bad._sock.sendall(stream)
        bad._sock.shutdown(socket.SHUT_WR)
    until(lambda: not bad._thread.is_alive())
    bad.close()
    good_goes_on(state, publisher)


# The controller's desk for inspectors


@contextmanager
def a_desk(state: Path) -> Iterator[tuple[Inspection, list[str]]]:
    (state / "proxy").mkdir(exist_ok=True)
    (state / "addons").mkdir(exist_ok=True)
    (state / "addons" / "tag.py").write_text("")
    policies = {name: AppRoutes(app=name, policy=Policy(inspect=True, addons=("tag",))) for name in ("shop", "blog")}
    noted: list[str] = []
    table = Table(version=1, apps=policies)
    desk = Inspection(state, table=lambda: table, note=lambda app, _level, text: noted.append(f"{app}: {text}"))
    stop = threading.Event()
    thread = threading.Thread(target=desk.run, args=(stop,))
    thread.start()
    try:
        yield desk, noted
    finally:
        stop.set()
        thread.join(5)
        assert not thread.is_alive()


def meet(state: Path, app: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    until(lambda: sock.connect_ex(str(state / "proxy" / "inspect" / "desk.sock")) == 0, "nobody listens")
    sock.sendall(render_line({"hello": {"app": app, "number": 1, "pid": os.getpid()}}))
    return sock


def is_served(state: Path, app: str) -> None:
    """An inspector that registers gets its addons."""
    with meet(state, app) as sock, sock.makefile("rb") as file:
        assert json.loads(file.readline()) == {"addons": [["tag", ""]]}


@cases(
    {"hello": 5}, {"hello": {"app": ["shop"]}}, {"captured": "x"}, {"captured": 1, "entry": []},
    {"captured": 1, "entry": {"response": 5}}, {"captured": 1, "entry": {"response": {"content": []}}},
    {"captured": 1, "entry": {"response": {"content": {"encoding": "base64", "text": "%"}}}},
    {"exhausted": HUGE}, {"exhausted": "much"}, {"ready": "tag"}, {"ready": 5},
)  # fmt: skip
def test_an_inspector_that_says_what_cannot_be_read_costs_itself_alone(tmp_path: Path, line: bytes) -> None:
    with a_desk(tmp_path) as (_, noted):
        is_served(tmp_path, "shop")
        with meet(tmp_path, "shop") as bad:
            bad.recv(100)
            with suppress(OSError):
                bad.sendall(line)
            with suppress(ConnectionResetError):
                assert bad.recv(100) == b""
        until(lambda: any("cannot be read" in text for text in noted))
        is_served(tmp_path, "blog")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    state = tmp_path_factory.mktemp("desk")
    with a_desk(state):
        is_served(state, "shop")
        yield state


@few
@given(streams)
def test_whatever_an_inspector_says_the_desk_serves_the_others(desk: Path, stream: bytes) -> None:
    with meet(desk, "shop") as bad, suppress(OSError):
        bad.sendall(stream)
        bad.shutdown(socket.SHUT_WR)
        while bad.recv(1000):
            pass
    is_served(desk, "blog")


def test_an_inspector_cannot_fill_the_history_or_the_memory_with_troubles(tmp_path: Path) -> None:
    with a_desk(tmp_path) as (inspection, noted), meet(tmp_path, "shop") as bad:
        bad.recv(100)
        for number in range(200):
            bad.sendall(render_line({"trouble": f"addon-{number}", "error": f"error {number}"}))
            bad.sendall(render_line({"trouble": "tag", "error": f"error {number}"}))
        until(lambda: inspection.remark("shop") == "addon tag: error 199", "it is not told")
        assert len([text for text in noted if "error" in text]) <= 20


def test_only_the_process_that_the_supervisor_names_is_an_apps_inspector(tmp_path: Path) -> None:
    with a_desk(tmp_path) as (inspection, _):
        is_served(tmp_path, "blog")
        killed: list[int] = []
        inspection.kill = killed.append
        inspection.set_roster({})
        with meet(tmp_path, "shop") as stranger:
            assert stranger.recv(100) == b""
        assert killed == []
        inspection.set_roster({os.getpid(): "shop"})
        is_served(tmp_path, "shop")
        with meet(tmp_path, "blog") as liar:
            assert liar.recv(100) == b""
        until(lambda: killed == [os.getpid()], "nobody had it killed")


# The controller's end of its channel to the supervisor


@cases({"roster": 5}, {"roster": ["1"]}, {"roster": [None]}, {"roster": {"1": 1}}, {"roster": [HUGE]})
def test_a_supervisor_that_cannot_be_understood_counts_as_gone(line: bytes) -> None:
    rosters, gone = hear_supervisor(render_line({"roster": [1]}) + line)
    assert rosters == [Roster(frozenset({1}))]
    assert gone


@few
@given(streams)
def test_whatever_the_supervisor_says_the_controller_ends_in_order(stream: bytes) -> None:
    assert hear_supervisor(stream)[1]


def hear_supervisor(stream: bytes) -> tuple[list[Any], bool]:
    ours, theirs = socket.socketpair()
    rosters: list[Any] = []
    gone = threading.Event()
    control = Control(theirs.detach(), on_roster=rosters.append, on_gone=gone.set)
    thread = threading.Thread(target=control.run, args=(threading.Event(),))
    thread.start()
    ours.settimeout(0.02)  # what it does not read any more need not be sent
    with ours, suppress(OSError):
        ours.sendall(stream)
        ours.shutdown(socket.SHUT_WR)
    thread.join(10)
    control._line.close()
    return rosters, gone.is_set() and not thread.is_alive()


# The supervisor's ends


class Log:
    """Remembers what was logged, and raises as the real one does where that cannot be."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def _say(self, text: str, **fields: object) -> None:
        f"{text} {fields}".encode()
        self.said.append(f"{text} {fields}")

    debug = info = warning = error = critical = _say

    def bind(self, **_: object) -> Log:
        return self

    def unbind(self, *_: str) -> Log:
        raise AssertionError("a worker called a method of ours")


class Stage:
    """A supervisor with a worker, an inspector, a controller and a nursery, each a process that does nothing."""

    def __init__(self, folder: Path) -> None:
        self.log = Log()
        self._open = ExitStack()
        found = load_settings({"state": folder, "workers": 1})
        inheritance = Inheritance(settings=found, public=Public(()), shared=-1, folder=-1)
        nothing: Any = None
        self.supervisor = Supervisor(inheritance, Programs(), nothing, nothing, self.log)
        self.worker, self.worker_end = self.supervisor._crew.expect(1, 0.0)
        self.supervisor._inspectors.take_wishes({"shop": "x"})
        self.inspector, self.inspector_end = self._an_inspector()
        self.controller, self.controller_end = self._a_child()
        self.nursery, self.nursery_end = self._a_child()
        self.supervisor._controller, self.supervisor._nursing.current = self.controller, self.nursery

    def _a_child(self) -> tuple[Child, socket.socket]:
        ours, theirs = socket.socketpair()
        process = self._open.enter_context(
            subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        self._open.callback(process.kill)
        return Child(process, LineSocket(ours), 0.0), theirs

    def _an_inspector(self) -> tuple[Inspector, socket.socket]:
        child, theirs = self._a_child()
        inspector = Inspector(1, "shop", "x", 1, child.channel, 0.0, child.process, None)
        self.supervisor._inspectors._live[1] = inspector
        return inspector, theirs

    def hear(self, name: str, stream: bytes) -> None:
        who, end = getattr(self, name), getattr(self, f"{name}_end")
        end.setblocking(False)
        while stream and not who.channel.closed:
            with suppress(BlockingIOError):
                stream = stream[end.send(stream) :]
            self.supervisor.hear(who.channel, who)

    def close(self) -> None:
        for name in ("worker", "inspector", "controller", "nursery"):
            getattr(self, name).channel.close()
            getattr(self, f"{name}_end").close()
        self.supervisor._selector.close()
        self._open.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


CHILD = ({"log": 5}, {"log": ["info"]}, {"log": None, "event": "x"}, {"log": "x" * 5_000, "event": ""})


@cases(*CHILD)
def test_a_worker_that_the_supervisor_cannot_understand_is_struck_off(stage: Stage, line: bytes) -> None:
    stage.hear("worker", line)
    assert stage.supervisor._crew.roster() == []
    assert [text for text in stage.log.said if text.startswith("worker killed")]
    stage.hear("inspector", render_line({"alive": True}))
    assert stage.inspector.heard is not None


@cases(*CHILD)
def test_an_inspector_that_the_supervisor_cannot_understand_is_struck_off(stage: Stage, line: bytes) -> None:
    stage.hear("inspector", line)
    assert not len(stage.supervisor._inspectors)
    assert [text for text in stage.log.said if text.startswith("inspector killed")]
    stage.hear("worker", render_line({"accepting": True}))
    assert stage.worker.accepting


@pytest.mark.parametrize("name", ["unbind", "bind", "__class__", "_say", "new", "exception", "log", ""])
def test_a_level_names_no_method_of_ours(stage: Stage, name: str) -> None:
    stage.hear("worker", render_line({"log": name, "event": "said\n\x1b[2J so"}))
    assert stage.supervisor._crew.roster() == [1]
    assert stage.log.said == ["said  [2J so {'worker': 1}"]


@cases(
    {"kill": "1"}, {"kill": None}, {"kill": HUGE}, {"certificates": []}, {"certificates": {"a.test": ["x"]}},
    {"certificates": {"a.test": "xy"}}, {"certificates": {"a.test": [1, 2]}}, {"inspect": ["shop"]},
    {"inspect": {"../shop": "x"}}, {"inspect": {"shop": None}},
)  # fmt: skip
def test_a_controller_that_the_supervisor_cannot_understand_is_killed(stage: Stage, line: bytes) -> None:
    stage.hear("controller", line)
    assert stage.controller.process.wait(10) == -9
    assert stage.supervisor._crew.roster() == [1]
    assert [text for text in stage.log.said if text.startswith("controller killed")]


@cases(
    {"born": "1", "pid": 2}, {"born": 1, "pid": -1}, {"born": 1, "pid": 0}, {"born": 1, "pid": 1}, {"died": [], "status": 1},
    {"stillborn": None, "why": 1}, {"born": 1, "pid": HUGE},
)  # fmt: skip
def test_a_nursery_that_the_supervisor_cannot_understand_is_killed(stage: Stage, line: bytes) -> None:
    stage.hear("nursery", line)
    assert stage.nursery.process.wait(10) == -9
    assert stage.supervisor._crew.roster() == [1]
    assert [text for text in stage.log.said if text.startswith("nursery killed")]


def test_a_nursery_cannot_have_us_kill_somebody_elses_process(stage: Stage) -> None:
    stage.supervisor._nursing.unborn = stage.worker
    stranger = stage.controller.process.pid
    with subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        grandchild = int(shell.stdout.readline())
        stage.hear("nursery", render_line({"born": 1, "pid": grandchild}))
        assert stage.nursery.process.wait(10) == -9
        assert stage.worker.pid is None
        os.kill(grandchild, 9)
        shell.kill()
    assert stranger


@pytest.mark.parametrize("name", ["worker", "inspector", "controller", "nursery"])
def test_a_line_that_never_ends_ends_its_sender(stage: Stage, name: str) -> None:
    for _ in range(70):
        stage.hear(name, ENDLESS)
    assert getattr(stage, name).channel.fault


@pytest.mark.parametrize("name", ["worker", "inspector", "controller", "nursery"])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(stream=streams)
def test_whatever_somebody_says_the_supervisor_hears_the_others(tmp_path: Path, name: str, stream: bytes) -> None:
    stage = Stage(tmp_path)
    try:
        stage.hear(name, stream)
        other = "inspector" if name == "worker" else "worker"
        stage.hear(other, render_line({"log": "info", "event": "I live"}))
        assert any(text.startswith("I live") for text in stage.log.said)
    finally:
        stage.close()


# The ends of workers, inspectors and the nursery: at the other end is one of ours


class Transport:
    """Takes what is written, and says whether it was cut."""

    def __init__(self) -> None:
        self.cut = False

    def abort(self) -> None:
        self.cut = True

    def write(self, _: bytes) -> None: ...

    def is_closing(self) -> bool:
        return self.cut

    def get_write_buffer_size(self) -> int:
        return 0


End = Callable[[Any], tuple[Any, list[str]]]


def a_feed(table: list[Any]) -> tuple[Any, list[str]]:
    complaints: list[str] = []

    def take(taken: Table) -> dict[str, str]:
        table.append(taken)
        return {}

    return Feed(worker=1, take=take, complain=complaints.append), complaints


def a_lease(table: list[Any]) -> tuple[Any, list[str]]:
    return Lease(table.append, lambda: None), []


def an_inspectors_desk(table: list[Any]) -> tuple[Any, list[str]]:
    async def made() -> Any:
        return Desk({}, table.append)

    return asyncio.run(made()), []


@pytest.mark.parametrize("line", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("make", [a_feed, a_lease, an_inspectors_desk])
def test_a_child_whose_other_end_cannot_be_understood_ends_the_connection_and_lives(make: End, line: bytes) -> None:
    end, _ = make([])
    transport = Transport()
    end.connection_made(transport)
    end.data_received(line)
    assert transport.cut


@pytest.mark.parametrize("make", [a_feed, a_lease, an_inspectors_desk])
@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(stream=streams)
def test_whatever_a_child_is_told_it_does_not_raise(make: End, stream: bytes) -> None:
    end, _ = make([])
    end.connection_made(Transport())
    end.data_received(stream)


def test_a_worker_keeps_its_table_whatever_else_it_is_sent() -> None:
    taken: list[Any] = []
    end, complaints = a_feed(taken)
    end.connection_made(Transport())
    whole = {"format": 1, "version": 5, "base": None, "apps": {}}
    end.data_received(render_line(whole) + render_line(whole | {"version": 6, "apps": 5}))
    assert [table.version for table in taken] == [5]
    assert end.table.version == 5
    assert complaints


@pytest.mark.parametrize(
    "line",
    [*UNREADABLE.values(), *[line for _, line in lines({"fork": "x"}, {"fork": None}, {"fork": [1]})]],
)
def test_a_nursery_whose_supervisor_cannot_be_understood_ends_and_forks_nobody(line: bytes) -> None:
    ours, theirs = socket.socketpair()
    nursery = _Nursery(Birth(control=-1, folder=-1), theirs, lambda *_: sys.exit("forked"))
    with ours, theirs, Path(os.devnull).open() as file:
        ours.setblocking(False)
        rest = line[socket.send_fds(ours, [line[:4_000]], [file.fileno()]) :]
        while (rest or select_now(theirs)) and (goes_on := nursery._obey()):
            with suppress(BlockingIOError):
                rest = rest[ours.send(rest) :] if rest else rest
        assert not goes_on
    os.close(nursery._wake)
    os.close(nursery._woken)


@settings(deadline=None)
@given(st.lists(streams, max_size=3))
def test_whatever_a_nursery_is_told_it_does_not_raise(parts: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    nursery = _Nursery(Birth(control=-1, folder=-1), theirs, lambda *_: sys.exit("forked"))
    with ours, theirs:
        ours.setblocking(False)
        for part in parts:
            with suppress(BlockingIOError):
                ours.send(part[:4_000])
            while select_now(theirs) and nursery._obey():
                pass
    os.close(nursery._wake)
    os.close(nursery._woken)


def select_now(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])
