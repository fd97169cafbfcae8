"""The API put together, and served from a thread of its own until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
import uvicorn
from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.api import (
    apps,
    backups,
    captures,
    certs,
    documents,
    events,
    fixed,
    logs,
    problems,
    secrets,
    service,
    shell,
    specs,
    sync,
    tokens,
    top,
)
from controller.api.admission import Admission, Admissions
from controller.api.auth import ENDED, Gate
from controller.api.parts import Parts
from controller.api.protocols import PeerHttp, PeerWebSocket
from controller.api.readers import Readers
from controller.api.sockets import BACKLOG, Listening
from controller.api.streams import Threads

log = structlog.get_logger("api")

STOP_LIMIT_S = 2
"""How long open requests may take once the service stops; followers are told to go at once."""
POLL_S = 0.1
HANDSHAKE_S = 10.0
"""How long a client may take over TLS; its connection counts from the first packet on."""
BODY_LIMIT_BYTES = 2 * 1024**2
"""No request of the API has a larger body."""


def build_api(parts: Parts) -> FastAPI:
    """Return the whole API over *parts*."""
    api = FastAPI(
        title="Oton Pilot",
        summary="Deploys containers behind its own proxy, without a lost request",
        version=parts.version or "0",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        responses={"default": problems.DOCUMENTED},
    )
    api.state.wakers = events.Wakers()
    threads = api.state.threads = Threads()
    gate = api.state.gate = Gate(parts.ledger.tokens)
    problems.install(api)
    routers = list_routers(parts, threads, api.state.wakers)
    for router in routers:
        api.include_router(router)
    api.state.routes = tuple(route for router in routers for route in router.routes)
    api.add_middleware(Frame, version=parts.version, engine_up=parts.engine.reachable, admissions=gate.admissions)
    return api


def list_routers(parts: Parts, threads: Threads, wakers: events.Wakers) -> tuple[APIRouter, ...]:
    """Return every part of the API."""
    readers = Readers()
    return (
        service.build_router(parts),
        documents.build_router(),
        specs.build_router(parts, readers),
        apps.build_router(parts, readers),
        logs.build_router(parts, threads),
        shell.build_router(parts, threads),
        captures.build_router(parts, threads),
        secrets.build_router(parts),
        secrets.build_key_router(parts),
        tokens.build_router(parts),
        certs.build_router(parts),
        fixed.build_router(parts),
        top.build_router(parts),
        sync.build_router(parts),
        backups.build_router(parts),
        events.build_router(parts.ledger, wakers),
    )


class Frame:
    """
    Around every request: who admitted it and how long that holds, and a limit for its body.

    On its answer our version, and whether the engine is away.
    """

    def __init__(self, app: ASGIApp, version: str, engine_up: Callable[[], bool], admissions: Admissions) -> None:
        self._app, self._version, self._engine_up = app, version.encode("latin-1", "replace"), engine_up
        self._admissions = admissions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        admission = scope.setdefault("state", {})["admission"] = Admission()
        try:
            if scope["type"] == "http":
                await self._serve(scope, receive, self._framed(send), admission)
            else:
                await self._app(scope, receive, send)
        finally:
            self._admissions.leave(admission)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, admission: Admission) -> None:
        limit = backups.LIMIT_BYTES if scope["path"] == backups.PATH else BODY_LIMIT_BYTES
        scope["state"]["body_limit"] = limit
        try:
            await self._app(scope, admission.receiving(limited(receive, limit)), admission.sending(send))
        except asyncio.CancelledError:
            if not admission.is_cut:
                raise
            await end_cut(scope, receive, send, admission)

    def _framed(self, send: Send) -> Send:
        async def send_framed(message: Message) -> None:
            if message["type"] == "http.response.start":
                away = [] if self._engine_up() else [(b"oton-engine", b"away")]
                message["headers"] = [*message["headers"], (b"oton-version", self._version), *away]
            await send(message)

        return send_framed


async def end_cut(scope: Scope, receive: Receive, send: Send, admission: Admission) -> None:
    """End a request whose token has ended: 401 where nothing is out yet, else by hanging up in mid-answer."""
    task = asyncio.current_task()
    while task is not None and task.uncancel():
        pass
    if not admission.is_answered:
        await problems.render_problem(401, "bad-token", ENDED)(scope, receive, send)
        return
    # A clean end would read as a whole answer; and whoever does not read would keep a clean end waiting.
    scope["state"]["hang_up"]()
    await asyncio.sleep(0)


def limited(receive: Receive, limit: int) -> Receive:
    """Return *receive* that gives up on a body above *limit* bytes."""
    taken = 0

    async def receive_limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise problems.Problem(413, "too-large", "the body is too large")
        return message

    return receive_limited


class ApiThread:
    """Serves one API on open listening sockets, in the clear or with TLS."""

    def __init__(self, api: FastAPI, *listening: Listening) -> None:
        self._api, self._listening = api, listening
        self.started = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Serve until *stop* is set; open requests get two seconds, followers end at once."""
        asyncio.run(self._serve(stop))

    async def _serve(self, stop: threading.Event) -> None:
        served = [Served(self._api, one) for one in self._listening]
        tasks = [asyncio.create_task(one.serve()) for one in served]
        try:
            while not stop.is_set() and not any(task.done() for task in tasks):
                await asyncio.sleep(POLL_S if self.started.is_set() else 0.01)
                for one in served:
                    one.take_new_certificate()
                if all(one.server.started for one in served):
                    self.started.set()
        finally:
            self._api.state.wakers.close()
            for one in served:
                one.server.should_exit = True
            await asyncio.gather(*tasks)


class Served:
    """The server of some sockets, and the certificate that it shows there."""

    def __init__(self, api: FastAPI, listening: Listening) -> None:
        self.listening = listening
        self.server = PatientServer(make_config(api, listening.certificate))
        self._seen = _state_of(listening.certificate)

    async def serve(self) -> None:
        """Serve until the server is told to stop."""
        await self.server.serve(sockets=list(self.listening.sockets))

    def take_new_certificate(self) -> None:
        """Show a replaced certificate from the next handshake on; one that cannot be used leaves the old one."""
        place, context = self.listening.certificate, self.server.config.ssl
        now = _state_of(place)
        if place is None or context is None or now in (None, self._seen):
            return
        self._seen = now
        try:
            context.load_cert_chain(place)
        except (OSError, ssl.SSLError) as error:
            log.error("the API keeps its old certificate: the new one cannot be read", file=str(place), why=str(error))


class PatientServer(uvicorn.Server):
    """uvicorn's server, whose own patience with a handshake is a minute."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept on *sockets*."""
        loop, config = asyncio.get_running_loop(), self.config
        await self.lifespan.startup()

        def make_protocol() -> asyncio.Protocol:
            return PeerHttp(config=config, server_state=self.server_state, app_state=self.lifespan.state)

        limit_s = HANDSHAKE_S if config.ssl is not None else None
        self.servers = [
            await loop.create_server(
                make_protocol, sock=one, ssl=config.ssl, backlog=BACKLOG, ssl_handshake_timeout=limit_s
            )
            for one in sockets or []
        ]
        self.started = True


def _state_of(place: Path | None) -> tuple[int, int] | None:
    """Return what tells one content of a file from the next; None where there is no file."""
    try:
        found = place.stat() if place is not None else None
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns) if found is not None else None


def make_config(api: FastAPI, certificate: Path | None = None) -> uvicorn.Config:
    """Return how uvicorn serves us: our protocols, our log, nobody's forwarded headers."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    return uvicorn.Config(
        api,
        ws=PeerWebSocket,
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_LIMIT_S,
        ws_max_size=1024**2,
        ssl_certfile=certificate,
    )


def serve_api(parts: Parts, listening: Sequence[Listening], stop: threading.Event) -> None:
    """Serve the API on all that is listening until *stop* is set; the socket's file goes with it."""
    try:
        ApiThread(build_api(parts), *listening).run(stop)
    finally:
        for one in listening:
            if one.file is not None:
                one.file.remove()
