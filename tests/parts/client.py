"""
The checking client: steady traffic of which every request has an id, joined afterwards with what backends logged.

    client = CheckingClient(port=3000, host="shop.test", logs=tmp_path / "logs")
    with client.running():
        ...                                  # swap releases
    report = client.report()
    report.check()                           # nothing lost, doubled or foreign
    assert not report.old_after(moment, "v1")
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.parts.wait import wait_for

ANSWER_LIMIT_S = 60.0


@dataclass(slots=True)
class Sent:
    """One request and what became of it."""

    id: str
    method: str
    target: str
    sent: float
    """Wall seconds."""
    answered: float | None = None
    status: int | None = None
    version: str = ""
    body: str = ""
    trouble: str = ""
    fresh: bool = False
    """First on its connection."""

    @property
    def is_open(self) -> bool:
        return self.status is None and not self.trouble

    @property
    def is_lost(self) -> bool:
        return self.status != 200

    @property
    def is_foreign(self) -> bool:
        """Answered, but with another request's answer."""
        return self.status == 200 and self.id not in self.body


@dataclass(frozen=True, slots=True)
class Report:
    """What was sent, joined with what backends took."""

    sent: tuple[Sent, ...]
    taken: Counter[str] = field(default_factory=Counter)
    """How often a backend took each id; empty without logs."""
    finished: Counter[str] = field(default_factory=Counter)

    @property
    def answered(self) -> tuple[Sent, ...]:
        return tuple(one for one in self.sent if not one.is_lost)

    @property
    def lost(self) -> tuple[Sent, ...]:
        """Not answered with 200, for whatever reason."""
        return tuple(one for one in self.sent if one.is_lost)

    @property
    def foreign(self) -> tuple[Sent, ...]:
        """Answered with what belongs to another request."""
        return tuple(one for one in self.sent if one.is_foreign)

    @property
    def doubled(self) -> tuple[Sent, ...]:
        """POSTs that more than one backend took, or one took twice."""
        return tuple(one for one in self.sent if one.method == "POST" and self.taken[one.id] > 1)

    @property
    def unheard(self) -> tuple[Sent, ...]:
        """Answered with 200, but no backend logged them: the client's own proof is wanting."""
        return tuple(one for one in self.answered if not self.taken[one.id])

    @property
    def repeated(self) -> int:
        """Requests of any method that were taken more than once (retries of the proxy)."""
        return sum(self.taken[one.id] > 1 for one in self.sent)

    def old_after(self, moment: float, *versions: str) -> tuple[Sent, ...]:
        """Return requests sent after *moment* (wall seconds) that one of *versions* answered."""
        return tuple(one for one in self.answered if one.sent > moment and one.version in versions)

    def versions(self) -> Counter[str]:
        """Return how many answers each version gave."""
        return Counter(one.version for one in self.answered)

    def summary(self) -> str:
        """Return one line for a person."""
        slowest = max((one.answered - one.sent for one in self.sent if one.answered), default=0.0)
        return (
            f"{len(self.sent)} sent, {len(self.answered)} answered, {len(self.lost)} lost, {len(self.doubled)} doubled, "
            f"{len(self.foreign)} foreign, slowest {slowest * 1000:.0f} ms, "
            + ", ".join(f"{version}: {count}" for version, count in sorted(self.versions().items()))
        )

    def evidence(self, limit: int = 10) -> str:
        """Return lines on the first requests that went wrong."""
        bad = [*self.lost, *self.foreign, *self.doubled][:limit]
        return "\n".join(
            f"{one.id} {one.method} {one.target} at {one.sent:.3f}: status {one.status}, {one.trouble or one.body!r}, "
            f"{'fresh' if one.fresh else 'kept'} connection, taken {self.taken[one.id]}, finished {self.finished[one.id]}"
            for one in bad
        )

    def check(self) -> None:
        """Raise AssertionError with the evidence unless nothing was lost, doubled or foreign."""
        assert self.sent, "nothing was sent"
        if self.lost or self.foreign or self.doubled:
            raise AssertionError(f"{self.summary()}\n{self.evidence()}")


class CheckingClient:
    """Sends until told to stop; one thread, one event loop, several lanes."""

    def __init__(
        self,
        *,
        port: int,
        host: str,
        address: str = "127.0.0.1",
        kept: int = 3,
        fresh: int = 2,
        slow: int = 1,
        slow_s: float = 5.0,
        pause_s: float = 0.02,
        path: str = "/",
        logs: Path | None = None,
    ) -> None:
        self._address, self._port, self._host, self._path = address, port, host, path.rstrip("/")
        self._plan = (kept, fresh, slow)
        self._slow_s, self._pause_s, self._logs = slow_s, pause_s, logs
        self.posts = True
        """Whether a third of the requests are POSTs; may be changed while it runs."""
        self._sent: list[Sent] = []
        self._prefix = secrets.token_hex(3)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to send."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="checking-client", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send nothing new and wait for what is open."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(ANSWER_LIMIT_S + 10)
            assert not self._thread.is_alive(), "the checking client does not end"

    @contextmanager
    def running(self) -> Iterator[CheckingClient]:
        """Send while the block runs."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def stop_posts(self, limit_s: float = ANSWER_LIMIT_S) -> None:
        """Send only GETs from now on, and return once every POST has been answered."""
        self.posts = False
        wait_for(
            lambda: not any(one.method == "POST" and one.is_open for one in list(self._sent)),
            limit_s,
            "no POST is open",
        )

    @property
    def count(self) -> int:
        """How many requests were sent so far."""
        return len(self._sent)

    def counts(self) -> tuple[int, int, int]:
        """Return how many were sent, answered and lost so far."""
        sent = list(self._sent)
        answered = sum(one.status == 200 for one in sent)
        lost = sum(one.status != 200 and bool(one.trouble or one.status) for one in sent)
        return len(sent), answered, lost

    def report(self) -> Report:
        """Return what was sent, joined with the backends' logs where there are some."""
        taken: Counter[str] = Counter()
        finished: Counter[str] = Counter()
        for line in read_logs(self._logs) if self._logs else ():
            if line.get("id") and line["event"] in ("got", "done"):
                (taken if line["event"] == "got" else finished)[line["id"]] += 1
        return Report(tuple(self._sent), taken, finished)

    async def _run(self) -> None:
        kept, fresh, slow = self._plan
        lanes = [self._lane(keep=True) for _ in range(kept)] + [self._lane(keep=False) for _ in range(fresh)]
        lanes += [self._lane(keep=True, slow=True) for _ in range(slow)]
        await asyncio.gather(*lanes)

    async def _lane(self, *, keep: bool, slow: bool = False) -> None:
        line: Line | None = None
        turn = 0
        while not self._stop.is_set():
            turn += 1
            one = self._next(turn, slow=slow)
            self._sent.append(one)
            try:
                if line is None:
                    one.fresh = True
                    line = await Line.open(self._address, self._port)
                body = one.id if one.method == "POST" else ""
                await asyncio.wait_for(line.ask(one, self._host, body, keep=keep), ANSWER_LIMIT_S)
            except (OSError, ValueError, EOFError, TimeoutError) as error:
                one.trouble = f"{type(error).__name__}: {error}"
            if line is not None and (one.trouble or not keep or line.is_over):
                line.close()
                line = None
            await asyncio.sleep(self._pause_s)
        if line is not None:
            line.close()

    def _next(self, turn: int, *, slow: bool) -> Sent:
        method = "POST" if self.posts and turn % 3 == 0 and not slow else "GET"
        target = f"/slow?s={self._slow_s:g}" if slow else "/echo" if method == "POST" else "/"
        number = f"{self._prefix}-{len(self._sent):06d}"
        return Sent(id=number, method=method, target=self._path + target, sent=time.time())


class Line:
    """One client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.is_over = False

    @classmethod
    async def open(cls, address: str, port: int) -> Line:
        return cls(*await asyncio.open_connection(address, port))

    def close(self) -> None:
        self._writer.close()

    async def ask(self, one: Sent, host: str, body: str, *, keep: bool) -> None:
        """Send *one* and note its answer. Raises what the connection raises."""
        head = f"{one.method} {one.target} HTTP/1.1\r\nHost: {host}\r\nX-Check-Id: {one.id}\r\n"
        head += "" if keep else "Connection: close\r\n"
        head += f"Content-Length: {len(body)}\r\n" if one.method == "POST" else ""
        self._writer.write(f"{head}\r\n{body}".encode())
        status, headers = await self._read_head()
        while 100 <= status < 200:
            status, headers = await self._read_head()
        one.body = (await self._read_body(headers)).decode("latin-1")
        one.status, one.answered = status, time.time()
        one.version = headers.get("x-version", "")
        self.is_over = headers.get("connection", "").lower() == "close"

    async def _read_head(self) -> tuple[int, dict[str, str]]:
        raw = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}

    async def _read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return await self._read_chunks()
        if "content-length" in headers:
            return await self._reader.readexactly(int(headers["content-length"]))
        self.is_over = True
        return await self._reader.read()

    async def _read_chunks(self) -> bytes:
        body = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return body


def read_logs(folder: Path) -> list[dict[str, object]]:
    """Return every line that backends logged in *folder*; a line that a kill cut in half is left out."""
    lines: list[dict[str, object]] = []
    for file in sorted(folder.glob("*.log")):
        for text in file.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
    return lines
