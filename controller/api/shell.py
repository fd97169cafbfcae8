"""
`exec` and `run` over a WebSocket.

The client sends one JSON text first: `{"command": [...], "tty": false, "size": [columns, rows], "replica": name}`.
Then binary is standard input (an empty message ends it) and text `{"size": [columns, rows]}` resizes. We send
binary whose first byte is the stream (1 or 2), and at the end one JSON text: `{"exit": 0}`, with `"error"` where
the command did not run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from controller.api.auth import Caller, identify
from controller.api.brought import check_brought
from controller.api.carry import OURS, Size, carry, end
from controller.api.parts import Parts
from controller.api.problems import Problem, from_trouble, no_such_app
from controller.api.streams import Threads
from controller.errors import ControllerError, Refused
from controller.plan.situation import Release
from controller.ports import ContainerPlan
from controller.queries import Seen

FIRST_S = 10.0
"""How long a client may take to say what it wants."""


class Wish(BaseModel):
    """What a client asks for first."""

    model_config = ConfigDict(extra="ignore")
    command: Annotated[list[Annotated[str, Field(max_length=100_000)]], Field(min_length=1, max_length=10_000)]
    tty: bool = False
    size: Size | None = None
    replica: str | None = None
    """exec: the replica's name or number; without it, a ready one."""
    release: int | None = None
    """run: the release whose spec is used; without it, the one that serves."""


def build_router(parts: Parts, threads: Threads) -> APIRouter:
    """Return the two WebSockets."""
    router = APIRouter(prefix="/v1/apps")

    @router.websocket("/{app}/exec")
    async def exec_in(socket: WebSocket, app: str) -> None:
        await serve(parts, threads, socket, app, "exec", lambda _, wish: start_exec(parts, app, wish))

    @router.websocket("/{app}/run")
    async def run_one(socket: WebSocket, app: str) -> None:
        await serve(parts, threads, socket, app, "run", lambda who, wish: start_run(parts, who, app, wish))

    return router


async def serve(
    parts: Parts,
    threads: Threads,
    socket: WebSocket,
    app: str,
    verb: Literal["exec", "run"],
    start: Callable[[Caller, Wish], Any],
) -> None:
    """Admit a client, start what it wants, and carry bytes until one side ends."""
    who = await admit(parts, socket, app)
    if who is None:
        return
    try:
        wish = Wish.model_validate_json(await asyncio.wait_for(socket.receive_text(), FIRST_S))
    except (ValidationError, TimeoutError, KeyError) as error:
        await end(socket, OURS, f"the first message cannot be read: {error}")
        return
    except WebSocketDisconnect:
        return
    await run_in_threadpool(parts.orders.note, verb, app, who.name, f"ran {wish.command[0][:80]}")
    try:
        session = await run_in_threadpool(start, who, wish)
    except Problem as problem:
        await end(socket, OURS, problem.detail)
    except ControllerError as error:
        await end(socket, getattr(error, "exit_code", OURS), from_trouble(error).detail)
    else:
        await carry(threads, who, socket, session, wish.size if wish.tty else None)


async def admit(parts: Parts, socket: WebSocket, app: str) -> Caller | None:
    """Accept the connection, or answer it with the problem."""
    try:
        who = await identify(socket)
        who.need("deploy", app)
        if parts.model.seen(app) is None:
            raise no_such_app(app)
    except Problem as problem:
        await socket.send_denial_response(problem.response())
        return None
    await socket.accept()
    return who


def start_exec(parts: Parts, app: str, wish: Wish) -> Any:
    """Start a command inside a replica."""
    seen = need_seen(parts, app)
    running = [one for one in seen.situation.world.replicas if one.kind == "replica" and one.state == "running"]
    chosen = [one for one in running if wish.replica in (None, one.name, str(one.index), one.id)]
    if not chosen:
        which = f"replica {wish.replica}" if wish.replica is not None else "replica"
        raise Refused(f"{app}: no running {which}; see: oton status {app}")
    verdicts = seen.situation.world.verdicts
    best = max(chosen, key=lambda one: (one.id in verdicts and verdicts[one.id].ready, one.release, -one.index))
    return parts.engine.exec_stream(best.id, wish.command, tty=wish.tty)


def start_run(parts: Parts, who: Caller, app: str, wish: Wish) -> Any:
    """Start a command in a one-off container with the app's spec, where *who* may bring that spec into force."""
    release = find_release(need_seen(parts, app), wish.release)
    check_brought(parts, who, app, release.spec, release.digest)
    values, files = parts.secrets_of(app, release)
    plan = ContainerPlan(
        app=app,
        release=release,
        index=0,
        kind="run",
        command=tuple(wish.command),
        secrets=values,
        files=files,
    )
    return parts.engine.run_oneoff(plan, tty=wish.tty)


def need_seen(parts: Parts, app: str) -> Seen:
    """Return what is known of the app; raises the 404."""
    seen = parts.model.seen(app)
    if seen is None:
        raise no_such_app(app)
    return seen


def find_release(seen: Seen, number: int | None) -> Release:
    """Return the release to run with: the one asked for, else the one that serves, else the newest with an image."""
    if number is not None:
        release = seen.releases.get(number)
    else:
        newest = max((one for one in seen.releases.values() if one.image_id), key=lambda one: one.number, default=None)
        release = seen.live or newest
    if release is None or not release.image_id:
        name = "no release has an image yet" if number is None else f"no release {number} with an image"
        raise Refused(f"{seen.situation.app}: {name}")
    return release
