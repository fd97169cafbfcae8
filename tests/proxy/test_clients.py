"""Clients that others wrote: curl and the websockets package, through the lane."""

import asyncio
import json
import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
import websockets

from tests.proxy.rig import Lane, Visit, an_app, answer, polite
from tests.proxy.shop import Shop

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def curl(*arguments: str, given: str = "") -> str:
    command = ["curl", "-sS", "--max-time", "10", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, input=given).stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
class TestCurl:
    def test_gets_posts_and_keeps_its_connection(self, lane: Lane) -> None:
        (backend,) = lane.serve()
        url = f"http://127.0.0.1:{lane.port}/"
        assert curl(url, url, url) == "b0b0b0"
        assert curl("-X", "POST", "--data-binary", "x" * 5000, url) == "b0"
        assert curl("-T", "-", "-H", "Expect: 100-continue", url, given="x" * 100_000) == "b0"
        assert backend.heads

    def test_head_and_http_1_0(self, lane: Lane) -> None:
        lane.serve()
        url = f"http://127.0.0.1:{lane.port}/"
        assert curl("-I", url).startswith("HTTP/1.1 200 OK")
        assert curl("--http1.0", url) == "b0"

    def test_a_page_for_browsers_and_a_problem_for_others(self, lane: Lane) -> None:
        lane.take()
        url = f"http://127.0.0.1:{lane.port}/"
        assert "<h1>Not Found</h1>" in curl("-H", "Accept: text/html", url)
        assert json.loads(curl(url))["status"] == 404

    def test_events_arrive_as_they_are_sent(self, lane: Lane) -> None:
        async def events(visit: Visit) -> None:
            await visit.head()
            await visit.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            for number in range(3):
                await visit.say(b"data: %d\n\n" % number)
                await asyncio.sleep(0.01)

        lane.serve(events)
        assert curl("-N", f"http://127.0.0.1:{lane.port}/") == "data: 0\n\ndata: 1\n\ndata: 2\n\n"

    def test_a_download_goes_on_from_where_it_stopped(self, lane: Lane, tmp_path: Path) -> None:
        whole = bytes(range(256)) * 40

        async def file(visit: Visit) -> None:
            while head := await visit.head():
                found = re.search(rb"\r\nRange: bytes=(\d+)-(\d*)\r\n", head)
                assert found is not None
                first, last = int(found[1]), int(found[2] or len(whole) - 1)
                line = f"Content-Range: bytes {first}-{last}/{len(whole)}"
                await visit.say(answer(whole[first : last + 1], "206 Partial Content", line))

        lane.serve(file)
        place = tmp_path / "file"
        words = ("-w", "%{http_code}", "-o", str(place), f"http://127.0.0.1:{lane.port}/file")
        assert curl("-r", "0-4999", *words) == "206"
        assert place.read_bytes() == whole[:5000]
        assert curl("-C", "-", *words) == "206"
        assert place.read_bytes() == whole

    @pytest.mark.parametrize("version", ["1.2", "1.3"])
    def test_https_by_a_certificate_that_it_checks(self, shop: Shop, tmp_path: Path, version: str) -> None:
        shop.take(**{"shop.example": shop.issue("shop.example")})
        url = f"https://shop.example:{shop.port}/"
        trust = shop.trust_file(tmp_path)
        words = ("--cacert", trust, "--resolve", f"*:{shop.port}:127.0.0.1", f"--tlsv{version}", "--tls-max", version)
        assert curl(*words, "-w", "%{num_connects}", url, url) == "one1one0"
        upload = ("-w", "%{http_code}", "-T", "-", "-H", "Expect: 100-continue")
        assert curl(*words, *upload, url, given="x" * 100_000) == "one200"
        with pytest.raises(subprocess.CalledProcessError) as broken:
            curl(*words, f"https://elsewhere.example:{shop.port}/")
        assert broken.value.returncode == 35, "no handshake"


def test_websockets_talks_through_the_lane_by_tls(shop: Shop) -> None:
    shop.take(**{"shop.example": shop.issue("shop.example")})
    trust = ssl.create_default_context()
    shop.ca.configure_trust(trust)

    async def echo(socket: websockets.ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    async def talk() -> list[int]:
        async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
            backend = shop.lane.backend()
            backend.port = next(iter(server.sockets)).getsockname()[1]
            await asyncio.to_thread(shop.lane.take, an_app(backend))
            url = f"wss://shop.example:{shop.port}/"
            ways = {"host": "127.0.0.1", "ssl": trust, "max_size": None, "proxy": None}
            async with websockets.connect(url, **ways) as client:
                sizes = []
                for size in (1, 65536, 2_000_000):
                    await client.send(b"x" * size)
                    sizes.append(len(await client.recv()))
                return sizes

    assert asyncio.run(asyncio.wait_for(talk(), 20)) == [1, 65536, 2_000_000]


def test_websockets_talks_through_the_lane_in_small_and_in_large(lane: Lane) -> None:
    async def echo(socket: websockets.ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    async def talk() -> list[int]:
        async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            backend = lane.backend(polite)
            backend.port = port
            await asyncio.to_thread(lane.take, an_app(backend))
            sizes = []
            async with websockets.connect(f"ws://127.0.0.1:{lane.port}/", max_size=None, proxy=None) as client:
                for size in (0, 1, 125, 126, 65535, 65536, 2_000_000):
                    await client.send(b"x" * size)
                    sizes.append(len(await client.recv()))
                await client.send("text")
                assert await client.recv() == "text"
                await (await client.ping())
            return sizes

    assert asyncio.run(asyncio.wait_for(talk(), 20)) == [0, 1, 125, 126, 65535, 65536, 2_000_000]


def test_a_request_that_asks_for_a_websocket_and_gets_a_page_is_answered(lane: Lane) -> None:
    async def page(visit: Visit) -> None:
        while await visit.head():
            await visit.say(answer(b"page"))

    lane.serve(page)

    async def talk() -> int:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(f"ws://127.0.0.1:{lane.port}/", proxy=None)
        return refused.value.response.status_code

    assert asyncio.run(asyncio.wait_for(talk(), 10)) == 200
