"""
Calls to the engine: clients that go from hand to hand, a deadline on each, every trouble one of our four errors.

Nothing outside this room ever sees an exception of docker, requests or urllib3.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import docker
import requests
import urllib3
from docker import errors as said
from docker.context import ContextAPI
from docker.transport import UnixHTTPAdapter
from docker.utils import kwargs_from_env

from controller.clock import steady_seconds
from controller.errors import ControllerError, Refused, Retry, Stale

OPERATION_S = 9.0
"""Longest time that one operation of the port may take, all its calls together."""
READ_S = 4.0
"""Longest time for a call that only reads."""
PING_S = 3.0
IDLE = 8
"""So many clients wait for the next call, each with a connection; those of a busier moment are closed behind it."""
AWAY_S = 1.0
"""For so long after an unanswered ping nobody asks the engine: with a frozen one each call costs seconds, and a hundred
apps have to hear of it soon."""

_UNIX = "http+docker://"
_START = "start it (`systemctl start docker`), or point DOCKER_HOST at it"
_MAY_NOT = "run oton as a user of the group `docker`, or as root"
_RUNTIME = re.compile(r"(?:OCI runtime (?:create|exec) failed|failed to create (?:shim|task)[^:]*):\s*", re.IGNORECASE)
_WRAPPING = re.compile(
    r"(?:runc create failed|exec failed|container_linux\.go:\d+|process_linux\.go:\d+|rootfs_linux\.go:\d+|"
    r"unable to start container process|starting container process caused|container init caused|"
    r"error during container init|failed to create task for container|failed to create shim task)\s*:?\s*"
)
_FOR_GOOD = re.compile(
    r"unable to find (?:user|group)|no matching entries in|mount|invalid|not supported|no such file or directory|"
    r"permission denied|could not select device driver|error gathering device information|unknown or invalid runtime",
    re.IGNORECASE,
)
"""What the engine answers with 500 though it will answer the same tomorrow."""
_FULL = ("no space left on device", "disk quota exceeded")
_BUSY = ("is already in progress", "port is already allocated", "context deadline exceeded", "try again")


BREAKS = (said.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError)
"""Every shape in which the SDK lets trouble through."""


class Gone(Stale):
    """The container is not there any more; for some operations that is success."""


class OneEngine(UnixHTTPAdapter):
    """Keeps one pool for the engine: the SDK's own keeps one, and so a connection, for each container asked about."""

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:
        return super().get_connection("http+docker://localhost", proxies)


class TimedClient(docker.APIClient):
    """The SDK's client where each request gets what is left of its operation's time."""

    def __init__(self, *, until: float, read_s: float | None = None, **settings: Any) -> None:
        self.until = until
        self.read_s: float | None = None
        """Longest silence in a streamed answer; None: what is left of the operation."""
        self.era = 0
        self.is_sound = True
        """No call of it broke off, so that its connection has nothing left of an earlier one."""
        super().__init__(**settings)  # asks for the version: needs its deadline already
        found = self.adapters.get(_UNIX)
        if isinstance(found, UnixHTTPAdapter):
            self.mount(_UNIX, OneEngine(f"http+unix://{found.socket_path}", found.timeout))
            found.close()
        self.read_s = read_s

    def request(self, method: str | bytes, url: str | bytes, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        left = max(0.05, self.until - steady_seconds())
        kwargs["timeout"] = (left, self.read_s) if self.read_s is not None else left
        return super().request(method, url, **kwargs)


class Calls:
    """Hands out clients and turns what goes wrong into Retry, Stale or Refused."""

    def __init__(self, host: str = "") -> None:
        self._host = host
        self._local = threading.local()
        """Of each thread, the client of the block that it is in."""
        self._idle: deque[TimedClient] = deque()
        """Clients that no block has now, the last used one at the end."""
        self._version: str | None = None
        self._era = 0
        self._up: bool | None = None
        self._away_until = 0.0
        self._noting = threading.Lock()
        self.on_reachable: Callable[[bool, str], None] = lambda up, why: None
        """Called once when the engine goes away, with the reason, or comes back, from whichever thread noticed."""

    @property
    def place(self) -> str:
        """Where the engine is, as the user would write it."""
        return str(self._where().get("base_url") or "unix:///var/run/docker.sock")

    @property
    def is_local(self) -> bool:
        """Say whether the engine is reached by a socket of this machine."""
        return self.place.startswith("unix:")

    @property
    def is_elsewhere(self) -> bool:
        """Say whether the engine runs on another machine, where its loopback is not ours."""
        host = urlsplit(self.place).hostname or ""
        return not self.is_local and host not in ("localhost", "127.0.0.1", "::1")

    def reachable(self) -> bool:
        """Say whether the last call that could tell reached the engine."""
        return bool(self._up)

    @contextmanager
    def doing(self, what: str, limit_s: float = OPERATION_S) -> Iterator[TimedClient]:
        """Hand out a client for *what* ("start shop-r4-1"), all calls within *limit_s* together.

        A block within another one shares the outer one's client and time. Raises Retry at once just after a ping that
        was not answered.
        """
        if self._up is False and steady_seconds() < self._away_until:
            raise Retry(f"cannot {what}: the container engine at {self.place} cannot be reached; {_START}")
        outer: TimedClient | None = getattr(self._local, "client", None)
        outer_until = outer.until if outer is not None else float("inf")
        until = min(outer_until, steady_seconds() + limit_s)
        client = outer
        try:
            if client is None:
                client = self._local.client = self._take(until)
            client.until = until
            yield client
        except BREAKS as error:
            if client is not None and not isinstance(error, said.APIError):
                client.is_sound = False
            raise self._translate(error, what) from error
        else:
            self._note(True)
        finally:
            if outer is not None:
                outer.until = outer_until
            else:
                self._local.client = None
                self._put_back(client)

    def open_client(self, limit_s: float = READ_S, read_s: float | None = None) -> TimedClient:
        """Return a client of its own, for one stream; the caller closes it. Use inside `doing`."""
        return self._make(steady_seconds() + limit_s, read_s)

    def ping(self) -> bool:
        """Ask the engine whether it is there, and remember the answer."""
        self._away_until = 0.0
        try:
            with self.doing("say that it is there", PING_S) as client:
                client.ping()
        except ControllerError as error:
            self._note(False, str(error))
            self._away_until = steady_seconds() + AWAY_S
        return self.reachable()

    def _take(self, until: float) -> TimedClient:
        # One per thread would hold a connection for every thread that the API's pool ever had.
        with suppress(IndexError):
            return self._idle.pop()
        return self._make(until, None)

    def _put_back(self, client: TimedClient | None) -> None:
        if client is None:
            return
        if client.is_sound and client.era == self._era and len(self._idle) < IDLE:
            self._idle.append(client)
        else:
            client.close()

    def _make(self, until: float, read_s: float | None) -> TimedClient:
        settings = {"version": self._version, "use_ssh_client": True, **self._where()}
        era = self._era
        client = TimedClient(until=until, read_s=read_s, **settings)
        client.era = era
        self._version = client.api_version
        # Proxies and .netrc are looked up in the environment for each request: costly, and never for a socket.
        client.trust_env = not self.is_local
        return client

    def _where(self) -> dict[str, Any]:
        """Find the engine as the Docker CLI does: setting, DOCKER_HOST, then the current context."""
        if self._host:
            return {**kwargs_from_env(), "base_url": self._host}
        from_env = dict(kwargs_from_env())
        return from_env if "base_url" in from_env else dict(ContextAPI.kwargs_from_context())

    def _note(self, up: bool, why: str = "") -> None:
        if up:
            self._away_until = 0.0
        with self._noting:  # of several threads that notice at once, one tells
            changed, self._up = self._up is not up, up
        if changed:
            self.on_reachable(up, why)

    def _forget_clients(self) -> None:
        self._era += 1
        self._version = None
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def _translate(self, error: Exception, what: str) -> ControllerError:
        if isinstance(error, said.APIError):
            return self._translate_answer(error, what)
        text = _plain(error)
        if is_timeout(error):
            # Not "unreachable": one container's lock can hang its calls while all others are answered.
            return Retry(f"the container engine did not {what} in time; it may be overloaded (try `docker ps`)")
        if isinstance(error, said.DockerException) and not isinstance(error.__cause__, Exception):
            return Refused(f"cannot {what}: {text}")
        mend = _MAY_NOT if "permission denied" in text.lower() else _START
        why = f"the container engine at {self.place} cannot be reached ({text}); {mend}"
        self._note(False, why)
        return Retry(why)

    def _translate_answer(self, error: said.APIError, what: str) -> ControllerError:
        text, code = explain(error), error.status_code or 500
        low = text.lower()
        self._note(True)
        if "client version" in low and "too new" in low:
            self._forget_clients()
            return Retry("the container engine was replaced by an older one; speaking its version from now on")
        if code == 404 and "no such container" in low:
            return Gone(f"cannot {what}: the container is gone")
        if any(word in low for word in _FULL):
            return Retry(f"cannot {what}: the engine's disk is full; free some space (`docker system df`)")
        if any(word in low for word in _BUSY):
            return Retry(f"cannot {what} now: {text}")
        if code == 404 and "network" in low:
            return Stale(f"cannot {what}: {text}")
        if code == 409:
            return Stale(f"cannot {what}: {text}")
        if code < 500 or _RUNTIME.search(str(error.explanation)) or _FOR_GOOD.search(text):
            return Refused(f"cannot {what}: {text}")
        return Retry(f"the container engine failed to {what}: {text}")


def explain(error: said.APIError) -> str:
    """Return what the engine said, without the layers of Go that it came through."""
    return plain_reason(str(error.explanation or error))


def plain_reason(text: str) -> str:
    """Return the innermost reason of a failed start."""
    if _RUNTIME.search(text):
        text = _WRAPPING.sub("", _RUNTIME.sub("", text))
        text = re.sub(r":\s*unknown\s*$", "", text)
    return " ".join(text.split())[:500]


def is_timeout(error: BaseException | None) -> bool:
    """Say whether a deadline of ours passed, however deep the libraries wrapped it."""
    while error is not None:
        if isinstance(error, requests.ConnectTimeout):
            return False
        if isinstance(error, requests.Timeout | urllib3.exceptions.ReadTimeoutError | TimeoutError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _plain(error: BaseException) -> str:
    """Return the innermost reason, such as "No such file or directory"."""
    inner = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return " ".join(str(inner).split())[:300] or type(inner).__name__
