"""Open requests and the tokens that admitted them: what a token opened ends when the token does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from starlette.types import Message, Receive, Send

LOOK_S = 10.0
"""How often a token is looked at beside its own end: the wall clock may have been set."""


class Tokens(Protocol):
    """The tokens, as far as admission asks."""

    def verify(self, secret: str) -> Any: ...
    def is_in_force(self, number: int) -> bool: ...
    def on_end(self, listener: Callable[[], None]) -> None: ...


class Admission:
    """One request on its way, or one WebSocket; `ended` is set when the token that admitted it ends."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.timer: asyncio.TimerHandle | None = None
        self.is_answered = False
        """The head of the answer is out."""
        self.is_cut = False
        self._task = asyncio.current_task()
        self._waits = False

    def end(self) -> None:
        """End it; what acts just now is let finish, and is cut where it next waits for its client."""
        if not self.ended.is_set():
            self.ended.set()
            if self._waits:
                self._cut()

    def receiving(self, receive: Receive) -> Receive:
        """Return *receive* that is cut when the token ends."""

        async def receive_admitted() -> Message:
            return await self._wait(receive())

        return receive_admitted

    def sending(self, send: Send) -> Send:
        """Return *send* that sends nothing more once the token has ended."""

        async def send_admitted(message: Message) -> None:
            self._check()
            self.is_answered = True
            # From the first byte to the last it may be cut anywhere; what is done after that is not the client's.
            self._waits = True
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._waits = False

        return send_admitted

    async def _wait(self, message: Any) -> Message:
        before, self._waits = self._waits, True
        try:
            self._check()
            found: Message = await message
        finally:
            self._waits = before
        return found

    def _check(self) -> None:
        if self.ended.is_set():
            self.is_cut = True
            raise asyncio.CancelledError

    def _cut(self) -> None:
        self.is_cut = True
        if self._task is not None:
            self._task.cancel()


class Admissions:
    """Every open request that a token admitted."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._open: dict[Admission, int] = {}
        tokens.on_end(self.wake)

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, admission: Admission, token: int, expires: float | None) -> None:
        """Have *admission* end with *token*, which expires at that wall second."""
        self._open[admission] = token
        self._look(admission, expires)

    def leave(self, admission: Admission) -> None:
        """Forget it."""
        self._open.pop(admission, None)
        if admission.timer is not None:
            admission.timer.cancel()

    def wake(self) -> None:
        """Have every admission looked at, from whatever thread a token was ended."""
        for admission in list(self._open):
            with suppress(RuntimeError):  # the loop has closed under a stopping server
                admission.loop.call_soon_threadsafe(self._look, admission, None)

    def _look(self, admission: Admission, expires: float | None) -> None:
        token = self._open.get(admission)
        if token is None:
            return
        if not self._tokens.is_in_force(token):
            admission.end()
        elif expires is not None:
            wait_s = min(LOOK_S, max(0.01, expires - time.time()))
            admission.timer = admission.loop.call_later(wait_s, self._look, admission, expires)
