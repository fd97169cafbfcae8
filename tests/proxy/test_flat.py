"""Memory stays flat, whatever passes: a gibibyte up, down and by WebSocket, and a million requests."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy.rig import Backend, Caller, Lane, Visit, answer
from tests.proxy.test_addon import PROGRAM
from tests.proxy.test_drain import HANDSHAKE, SWITCH

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GIBIBYTE = 1024**3
PIECE = 2**20
ROOM_KB = 16 * 1024


async def everything(visit: Visit) -> None:
    """Swallow uploads, send a gibibyte, or echo a WebSocket, by path."""
    while head := await visit.head():
        if b" /ws " in head:
            await visit.say(SWITCH)
            while data := await visit.reader.read(PIECE):
                visit.raw.clear()
                await visit.say(data)
            return
        if b" /up " in head:
            left = GIBIBYTE
            while left and (data := await visit.reader.read(min(left, PIECE))):
                left -= len(data)
            await visit.say(answer())
        elif b" /down " in head:
            await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIBIBYTE)
            for _ in range(GIBIBYTE // PIECE):
                await visit.say(bytes(PIECE))
        else:
            await visit.say(answer())
        visit.raw.clear()
        visit.backend.heads.clear()


@pytest.fixture
def worker(lane: Lane) -> Iterator[tuple[int, int]]:
    """Run a lane in a process of its own; yields its port and pid."""
    backend: Backend = lane.backend(everything)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(backend.port)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def peak_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def send_a_gibibyte(caller: Caller) -> None:
    for _ in range(GIBIBYTE // PIECE):
        caller.send(bytes(PIECE))


def threads_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def test_an_upload_and_a_download_of_a_gibibyte(worker: tuple[int, int]) -> None:
    port, pid = worker
    with Caller(port) as caller:
        caller.sock.settimeout(60)
        assert caller.get("/").status == 200
        before = peak_kb(pid)
        caller.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % GIBIBYTE)
        send_a_gibibyte(caller)
        assert caller.reply().status == 200
    with Caller(port) as caller:
        caller.sock.settimeout(60)
        caller.send(b"GET /down HTTP/1.1\r\nHost: a\r\n\r\n")
        caller.until(b"\r\n\r\n")
        left = GIBIBYTE - len(caller.buffer)
        space = bytearray(PIECE)
        while left:
            count = caller.sock.recv_into(space, min(left, PIECE))
            assert count
            left -= count
    assert peak_kb(pid) - before < ROOM_KB


def test_a_websocket_frame_of_a_gibibyte(worker: tuple[int, int]) -> None:
    port, pid = worker
    with Caller(port) as caller:
        caller.sock.settimeout(60)
        caller.send(HANDSHAKE)
        assert caller.reply().status == 101
        before = peak_kb(pid)
        caller.send(b"\x82\xff" + GIBIBYTE.to_bytes(8, "big") + b"\0\0\0\0")
        threading.Thread(target=send_a_gibibyte, args=(caller,), daemon=True).start()
        left = GIBIBYTE + 14
        space = bytearray(PIECE)
        while left:
            count = caller.sock.recv_into(space, min(left, PIECE))
            assert count
            left -= count
    assert peak_kb(pid) - before < ROOM_KB


async def ask(port: int, count: int) -> None:
    """Send *count* requests on one connection, ten at a time; each head is new to the lane."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    size = len(answer())
    for number in range(count // 10):
        writer.writelines(
            b"GET /%d/%d HTTP/1.1\r\nHost: a\r\nX-N: %d\r\n\r\n" % (number, each, number) for each in range(10)
        )
        assert (await reader.readexactly(10 * size)).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()


async def crowd(port: int, count: int) -> None:
    """Send *count* requests over many connections, one after the other on eight ways."""

    async def way() -> None:
        for _ in range(count // 8 // 1_000):
            await ask(port, 1_000)

    await asyncio.gather(*(way() for _ in range(8)))


@pytest.mark.timeout(600)
def test_a_million_requests(worker: tuple[int, int]) -> None:
    port, pid = worker
    asyncio.run(crowd(port, 40_000))
    before, opened, threads = peak_kb(pid), len(list(Path(f"/proc/{pid}/fd").iterdir())), threads_of(pid)
    asyncio.run(crowd(port, 1_000_000))
    assert peak_kb(pid) - before < ROOM_KB
    assert abs(len(list(Path(f"/proc/{pid}/fd").iterdir())) - opened) <= 16, "connections in either direction"
    assert threads_of(pid) == threads
