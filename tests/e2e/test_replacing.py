"""F10: workers and the whole service replaced under load, with a download, an event stream and a WebSocket open."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.parts.service import Service
from tests.parts.stage import Stage
from tests.parts.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

STOP_S = 80.0
CHUNKS, PAUSE_S = 600, 0.1
"""A download of a minute."""


@pytest.fixture
def activated(tmp_path: Path) -> Iterator[Service]:
    """A service whose public socket outlives it."""
    service = Service(tmp_path, {"OTON_STOP_TIMEOUT": f"{STOP_S:g}s"})
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        service.listener, service.port = listener, listener.getsockname()[1]
        try:
            service.start()
            yield service
        finally:
            service.close()


def download(shop: Stage, chunks: int) -> list[str]:
    """Return the lines of a long answer, which has to come to its proper end."""
    url = f"http://127.0.0.1:{shop.service.port}/chunks?n={chunks}&s={PAUSE_S}"
    with httpx.stream("GET", url, headers={"Host": shop.host}, timeout=20) as answer:
        return list(answer.iter_lines())


def follow_events(shop: Stage) -> float:
    """Read events to the stream's proper end and return when that was, monotonic."""
    url = f"http://127.0.0.1:{shop.service.port}/sse?n=0&s=0.1"
    with httpx.stream("GET", url, headers={"Host": shop.host}, timeout=20) as answer:
        assert all(line.startswith(("id:", "data: v1")) or not line for line in answer.iter_lines())
    return time.monotonic()


def talk(shop: Stage) -> tuple[int, float]:
    """Talk to an echo until the WebSocket is closed; return the close code and when that was, monotonic."""
    with connect(f"ws://{shop.host}/ws", sock=socket.create_connection(("127.0.0.1", shop.service.port))) as line:
        try:
            while True:
                line.send("hello")
                assert line.recv(10) == "hello"
                time.sleep(PAUSE_S)  # a conversation has pauses
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 0, time.monotonic()


@pytest.mark.core
def test_workers_are_replaced_with_a_long_download_an_event_stream_and_a_websocket_open(activated: Service) -> None:
    shop = Stage(activated, "shop", replicas=2)
    shop.deploy("v1")
    before = activated.pids_of("oton-worker")
    with shop.load(), ThreadPoolExecutor() as pool:
        loading = pool.submit(download, shop, CHUNKS)
        following = pool.submit(follow_events, shop)
        talking = pool.submit(talk, shop)
        wait_for(lambda: shop.backend_log().count('"got"') and "/ws" in shop.backend_log(), 10, "all three are open")
        asked = time.monotonic()
        assert activated.process is not None
        activated.process.send_signal(signal.SIGHUP)
        assert loading.result(STOP_S + 20) == [f"chunk {number}" for number in range(CHUNKS)]
        events_ended = following.result(STOP_S + 20)
        code, talk_ended = talking.result(STOP_S + 20)
        wait_for(lambda: not set(before) & set(activated.pids_of("oton-worker")), 20, "the former workers are gone")
    assert code == 1012
    for ended in (events_ended, talk_ended):
        assert STOP_S * 0.75 <= ended - asked <= STOP_S + 10, "the last quarter, counted from when the new ones accept"


@pytest.mark.core
def test_the_service_is_replaced_behind_its_socket_without_a_refused_connection(activated: Service) -> None:
    shop = Stage(activated, "shop", replicas=2)
    shop.deploy("v1")
    with shop.load(slow=0), ThreadPoolExecutor() as pool:
        loading = pool.submit(download, shop, 100)
        wait_for(lambda: "/chunks" in shop.backend_log(), 10, "the download is open")
        assert activated.stop() == 0
        activated.start()
        assert len(loading.result(20)) == 100
