from __future__ import annotations

import asyncio
import json
import os

from controller.proxy.logpipe import ATOMIC_BYTES, LogPipe


def test_a_reader_that_stalls_costs_lines_and_never_a_request():
    async def story() -> None:
        complaints: list[str] = []
        reader, writer = os.pipe()
        loop = asyncio.get_running_loop()
        pipe = LogPipe(writer, loop, complaints.append)
        began = loop.time()
        for number in range(60_000):
            pipe.write({"n": number, "path": "/" + "x" * 100})
        pipe.flush()
        assert loop.time() - began < 5, "it waited for the reader"
        seen: list[bytes] = []
        os.set_blocking(reader, False)
        deadline = loop.time() + 20
        while True:
            assert loop.time() < deadline
            try:
                seen.append(os.read(reader, 1 << 20))
            except BlockingIOError:
                if complaints:
                    break
                await asyncio.sleep(0.005)
        numbers = [json.loads(line)["n"] for line in b"".join(seen).splitlines()]
        assert numbers == list(range(len(numbers))), "lines are whole and in order"
        assert f"{60_000 - len(numbers)} lines were dropped" in complaints[0]
        os.close(reader)
        pipe.write({"n": -1})
        pipe.flush()
        os.close(writer)

    asyncio.run(asyncio.wait_for(story(), 60))


def test_lines_go_to_a_pipe_in_pieces_that_do_not_mix_and_to_a_file_in_one(tmp_path):
    async def story() -> None:
        loop = asyncio.get_running_loop()
        pieces: list[int] = []
        write = os.write

        def note(fd: int, data: bytes) -> int:
            pieces.append(len(data))
            assert data.endswith(b"\n")
            return write(fd, data)

        reader, writer = os.pipe()
        file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
        try:
            for fd in (writer, file):
                pipe = LogPipe(fd, loop, print)
                for number in range(100):
                    pipe.write({"n": number, "text": "é" * 50})
                os.write = note
                try:
                    pipe.flush()
                finally:
                    os.write = write
        finally:
            os.close(file)
        assert len(pieces) > 3
        assert all(size <= ATOMIC_BYTES for size in pieces[:-1])
        assert pieces[-1] == sum(pieces[:-1])
        os.close(reader)
        os.close(writer)

    asyncio.run(story())
