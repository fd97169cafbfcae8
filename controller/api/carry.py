"""Bytes both ways between a WebSocket and a process, until the process, the client or the client's token ends."""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from controller.api.admission import Admission
from controller.api.auth import ENDED, Caller
from controller.api.problems import Problem
from controller.api.streams import Hose, Threads
from controller.errors import ControllerError

OURS = 125
"""The exit code that says: the service failed, not the command."""
INPUT_WAITING = 64
FAREWELL_S = 1.0
"""How long a client may take to read how it ended."""
Size = Annotated[list[Annotated[int, Field(ge=1, le=10_000)]], Field(min_length=2, max_length=2)]


class Resize(BaseModel):
    """What a client says in mid-session; whatever else is in it is for a newer version."""

    model_config = ConfigDict(extra="ignore")
    size: Size


async def carry(threads: Threads, who: Caller, socket: WebSocket, session: Any, size: list[int] | None) -> None:
    """Carry bytes both ways until one side ends, or the caller's token does."""
    inlet: queue.Queue[bytes | None] = queue.Queue(INPUT_WAITING)
    hose: Hose[bytes] = Hose(threads, who)
    try:
        threads.start("session input", who, lambda: feed(session, inlet))
        hose.add("session output", session.frames(), session.close, lambda frame: bytes([frame[0]]) + frame[1])
        if size is not None:
            await run_in_threadpool(session.resize, size[1], size[0])
        if await first_end(socket, session, hose, inlet):
            code = await run_in_threadpool(session.exit_code)
            await end(socket, OURS if code is None else code, "" if code is not None else "its exit code is not known")
    except Problem as problem:
        await end(socket, OURS, problem.detail)
    finally:
        await run_in_threadpool(session.close)
        release(inlet)
        hose.close()


async def first_end(socket: WebSocket, session: Any, hose: Hose[bytes], inlet: queue.Queue[bytes | None]) -> bool:
    """Carry until something ends; say whether it was the process."""
    admission: Admission = socket.scope["state"]["admission"]
    gone: asyncio.Event = socket.scope["state"]["gone"]  # also while nothing is read from the client
    delivering = asyncio.create_task(deliver(socket, hose))
    ended = asyncio.create_task(admission.ended.wait())
    others = [asyncio.create_task(one) for one in (listen(socket, session, inlet), gone.wait())]
    tasks = [delivering, ended, *others]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            delivering.cancel()
            await end(socket, OURS, ENDED)
            return False
        return delivering.done() and delivering.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def end(socket: WebSocket, code: int, error: str = "") -> None:
    """Say how it ended, and hang up; a client that does not read it is cut off."""
    try:
        async with asyncio.timeout(FAREWELL_S):
            await socket.send_text(json.dumps({"exit": code} | ({"error": error} if error else {})))
            await socket.close()
    except (RuntimeError, WebSocketDisconnect, OSError):
        return
    except TimeoutError:
        hang_up: Callable[[], None] = socket.scope["state"]["hang_up"]
        hang_up()


async def deliver(socket: WebSocket, hose: Hose[bytes]) -> bool:
    """Send output as it comes; return whether the process ended before the client went."""
    while True:
        item = await hose.next(0.5)
        if item is None and hose.open == 0:
            return True
        if item is not None:
            try:
                await socket.send_bytes(item)
            except (RuntimeError, WebSocketDisconnect, OSError):
                return False


async def listen(socket: WebSocket, session: Any, inlet: queue.Queue[bytes | None]) -> None:
    """Take input and sizes from the client until it goes."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        data, text = message.get("bytes"), message.get("text")
        if data is not None:
            await put(inlet, data)
        elif text is not None:
            await resize(session, text)


async def put(inlet: queue.Queue[bytes | None], data: bytes) -> None:
    """Hand input on; a process that does not read makes the client wait, not us."""
    while True:
        try:
            inlet.put_nowait(data)
        except queue.Full:
            await asyncio.sleep(0.02)
        else:
            return


async def resize(session: Any, text: str) -> None:
    """Take over the window's size; one that cannot be is no reason to end."""
    with suppress(ValidationError, ControllerError):
        columns, rows = Resize.model_validate_json(text).size
        await run_in_threadpool(session.resize, rows, columns)


def feed(session: Any, inlet: queue.Queue[bytes | None]) -> None:
    """Write input to the process until there is no more."""
    while True:
        data = inlet.get()
        if data is None:
            return
        if data:
            session.send(data)
        else:
            session.end_input()


def release(inlet: queue.Queue[bytes | None]) -> None:
    """End `feed`, whatever still waits in front of the end."""
    with suppress(queue.Empty):
        while True:
            inlet.get_nowait()
    inlet.put_nowait(None)
