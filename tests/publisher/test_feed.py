"""Both ends of the feed together: the worker's real one against the real publisher."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import sys
import threading
import types
from collections.abc import Awaitable, Callable

import pytest

from controller.proxy.feed import Feed, load_covered, load_snapshot
from controller.publisher.server import FeedServer
from controller.routing.table import FORMAT, Table, encode_app
from controller.wire.codec import render_line
from controller.wire.lines import LineReader, LineSocket
from tests.parts.wait import wait_for
from tests.publisher.fakes import PATIENCE_S, publishing, routes


class Lane:
    """What a core would do with a table: remember it."""

    def __init__(self) -> None:
        self.tables: list[Table] = []
        self.complaints: list[str] = []
        self.certificates: list[object] = []
        self.covered: list[frozenset[str]] = []
        self.faults: dict[str, str] = {}

    def take(self, table: Table) -> dict[str, str]:
        self.tables.append(table)
        return self.faults

    def feed(self, state, worker: int = 1) -> Feed:
        return Feed(
            worker=worker,
            take=self.take,
            complain=self.complaints.append,
            take_certificates=self.certificates.append,
            take_covered=self.covered.append,
            folder=state / "proxy",
        )


async def until(condition: Callable[[], object]) -> None:
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.002)


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 20))


def test_tables_changes_and_confirmations_reach_each_other(tmp_path):
    async def story() -> None:
        lane = Lane()
        with publishing(tmp_path) as publisher:
            publisher.set_roster([1])
            publisher.publish("shop", routes("shop", "a"))
            publisher.set_certificates({"shop.test": ("CERT", "KEY")})
            feed = lane.feed(tmp_path)
            task = asyncio.create_task(feed.run())
            await feed.wait_for_table(5, 5)
            await until(publisher.is_current)
            await until(lambda: lane.certificates == [{"shop.test": ["CERT", "KEY"]}])
            publisher.publish_many({"shop": None, "blog": routes("blog", "b")})
            await until(publisher.is_current)
            assert lane.tables[-1].apps == {"blog": routes("blog", "b")}
            assert lane.tables[-1].sticky_key == publisher.table().sticky_key
            await end(task)
        assert b"CERT" not in (tmp_path / "proxy" / "table.json").read_bytes()

    run(story)


def test_a_worker_comes_back_by_itself_and_tells_again_what_has_drained(tmp_path):
    async def story() -> None:
        lane = Lane()
        feed = lane.feed(tmp_path)
        task = asyncio.create_task(feed.run())
        with publishing(tmp_path) as first:
            first.set_roster([1])
            first.publish("shop", routes("shop", "a", "b"))
            await until(first.is_current)
            first.publish("shop", routes("shop", "c", draining=("a", "b")))
            await until(first.is_current)
            feed.report({"kind": "drained", "app": "shop", "upstream": "a", "version": 2})
            feed.report({"kind": "drained", "app": "shop", "upstream": "b", "version": 2})
            await until(lambda: first.routing("shop").drained == {"a", "b"})
            first.publish("shop", routes("shop", "b", "c", draining=("a",)))
            await until(first.is_current)
        await until(lambda: feed._transport is None)
        refused: list[str] = []
        feed.report({"kind": "refused", "app": "shop", "upstream": "c", "why": "reset"})
        with publishing(tmp_path, on_refused=refused.append) as second:
            second.set_roster([1])
            await until(second.is_current)
            assert second.table().version == 3
            await until(lambda: refused == ["c"])
            assert second.routing("shop").drained == {"a"}, "b is picked again"
            assert len(lane.tables) == 3, "nothing changed, so nothing was sent"
        await end(task)

    run(story)


def test_without_a_controller_the_snapshot_is_served_and_then_caught_up(tmp_path):
    async def story() -> None:
        with publishing(tmp_path) as first:
            first.publish("shop", routes("shop", "a"))
            first.set_covered(frozenset({"shop.test", "*.shop.test"}))
        lane = Lane()
        feed = lane.feed(tmp_path)
        task = asyncio.create_task(feed.run())
        await feed.wait_for_table(0.05, 5)
        assert lane.covered == [frozenset({"shop.test", "*.shop.test"})]
        assert lane.tables[-1].apps == {"shop": routes("shop", "a")}
        assert lane.complaints == ["no controller: serving from the snapshot"]
        with publishing(tmp_path) as second:
            second.set_roster([1])
            second.publish("shop", routes("shop", "b"))
            await until(second.is_current)
            assert lane.tables[-1].apps == {"shop": routes("shop", "b")}
        await end(task)

    run(story)


def test_with_neither_controller_nor_snapshot_a_worker_waits_longer_and_then_serves_nothing(tmp_path):
    async def story() -> None:
        (tmp_path / "proxy").mkdir()
        lane = Lane()
        feed = lane.feed(tmp_path)
        await feed.wait_for_table(0.01, 0.05)
        assert lane.tables == []
        assert lane.complaints == ["no controller and no snapshot: serving without routes"]

    run(story)


def test_a_change_that_does_not_fit_is_answered_by_asking_for_the_whole_and_unknown_fields_are_ignored(tmp_path):
    async def story() -> None:
        (tmp_path / "proxy").mkdir()
        lane, heard = Lane(), []
        reader = LineReader()

        class Controller(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
                whole = {
                    "format": FORMAT,
                    "version": 5,
                    "base": None,
                    "apps": {"shop": encode_app(routes("shop", "a"))},
                }
                transport.write(render_line({**whole, "of the future": [1]}))
                transport.write(render_line({"new verb": 1}))
                transport.write(render_line({"format": FORMAT, "version": 9, "base": 8, "apps": {}}))

            def data_received(self, data):
                heard.extend(reader.feed(data))

        server = await asyncio.get_running_loop().create_unix_server(Controller, str(tmp_path / "proxy" / "feed.sock"))
        feed = lane.feed(tmp_path, worker=4)
        task = asyncio.create_task(feed.run())
        await until(lambda: {"behind": 5} in heard)
        assert heard[0]["hello"]["worker"] == 4
        assert heard[0]["hello"]["version"] == 0
        assert {"confirm": 5} in heard
        assert lane.tables[-1].version == 5
        await end(task)
        server.close()

    run(story)


def test_a_controller_that_does_not_read_costs_bounded_memory(tmp_path):
    async def story() -> None:
        (tmp_path / "proxy").mkdir()
        met = []
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "proxy" / "feed.sock"))
        listener.listen()
        listener.settimeout(5)
        thread = threading.Thread(target=lambda: [met.append(listener.accept()[0]) for _ in range(2)])
        thread.start()
        feed = Lane().feed(tmp_path)
        task = asyncio.create_task(feed.run())
        await until(lambda: len(met) == 1)
        for _ in range(5000):
            feed.report({"kind": "meters", "counters": {"fill": "x" * 1000}})
        await until(lambda: len(met) == 2)
        await end(task)
        thread.join()
        for one in (*met, listener):
            one.close()

    run(story)


def test_a_snapshot_that_is_torn_or_of_another_world_counts_as_none(tmp_path):
    place = tmp_path / "table.json"
    assert load_snapshot(place) is None
    for text in ("", "{", "[]", '{"version": "x"}', json.dumps({"format": 99, "version": 1, "apps": {}})):
        place.write_text(text)
        assert load_snapshot(place) is None


def test_a_line_without_an_end_ends_the_connection_and_not_our_memory():
    ours, theirs = socket.socketpair()
    with theirs:
        line = LineSocket(ours, line_bytes=10_000)
        for _ in range(20):
            theirs.send(b"x" * 1000)
        assert line.receive() == []
        assert line.closed
        line.close()


def test_lines_arrive_whole_however_they_are_cut():
    reader = LineReader()
    data = b"".join(render_line({"n": n, "text": "é" * n}) for n in range(20))
    found = [message for at in range(0, len(data), 7) for message in reader.feed(data[at : at + 7])]
    assert [message["n"] for message in found] == list(range(20))


@pytest.mark.parametrize("text", ["", "{}", "5", '["a", 5]', "[" * 100_000])
def test_names_that_cannot_be_read_are_none(tmp_path, text):
    (tmp_path / "covered.json").write_text(text)
    assert load_covered(tmp_path / "covered.json") <= {"a"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system's limit on a socket's path stands")
def test_a_folder_of_any_depth_has_room_for_its_socket(tmp_path):
    folder = tmp_path / ("a" * 100) / "proxy" / "inspect"
    folder.mkdir(parents=True)
    listener = types.SimpleNamespace(
        take=lambda *_: None, refuse=lambda *_: None, lost=lambda _: None, look=lambda: None
    )
    server, stop = FeedServer(folder, threading.RLock(), listener, name="desk.sock"), threading.Event()
    thread = threading.Thread(target=server.run, args=(stop,))
    thread.start()
    try:
        wait_for((folder / "desk.sock").is_socket, PATIENCE_S, "it listens")
        assert stat.S_IMODE((folder / "desk.sock").stat().st_mode) == 0o660
    finally:
        stop.set()
        thread.join()
