"""
Basic authentication by htpasswd lines: bcrypt, Apache's MD5 (`$apr1$`) and SHA-1 (`{SHA}`).

Slow hashes are computed in two threads beside the loop, and what was found right is remembered for a while under a
keyed hash, so that a page with fifty images costs one bcrypt and the loop never waits for any. An app has one of the
threads at most, and apps take turns: one whose passwords are guessed at does not keep the others' users waiting.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic

import bcrypt

_REMEMBERED_S = 300.0
_REMEMBERED = 4096
_THREADS = 2
_WAITING = 32
"""Passwords of one app that may wait; beyond it the answer is 503, never 401."""
_WAITING_OF_CLIENT = 8
"""The same from one address, so that one who guesses leaves room for those who know."""
_NICE = 10
"""The loop goes before: what it does takes microseconds, a bcrypt up to a second."""

Tell = Callable[[bool | None], None]
"""Takes whether a password is right; None: that could not be found out now."""


@dataclass(frozen=True, slots=True)
class _Check:
    """One password on its way."""

    app: str
    client: str
    mark: bytes
    expected: str
    password: bytes


class Passwords:
    """Checks passwords for one worker."""

    def __init__(self) -> None:
        self._key = os.urandom(16)
        self._right: dict[bytes, float] = {}
        self._wrong: dict[bytes, float] = {}
        """Until when a mark is remembered. Apart, so that guesses push nobody's right password out."""
        self._waiting: dict[str, deque[_Check]] = {}
        """By app, in the order of their turns."""
        self._tells: dict[tuple[str, bytes], list[Tell]] = {}
        """Who wants to know: a browser that opens six connections at once costs one computation."""
        self._busy: set[str] = set()
        """Apps of which a password is being computed."""
        self._threads: ThreadPoolExecutor | None = None

    def look(self, lines: tuple[str, ...], authorization: bytes) -> bool | None:
        """Say whether the header's password is right; None where that takes a computation."""
        given = _parse(authorization)
        if given is None:
            return False
        expected = _line_of(lines, given[0])
        if expected is None:
            return False
        if expected.startswith("{SHA}"):
            return _is_right(expected, given[1])
        mark, now = self._mark(expected, given[1]), monotonic()
        if self._right.get(mark, 0.0) > now:
            return True
        return False if self._wrong.get(mark, 0.0) > now else None

    def check(self, app: str, client: str, lines: tuple[str, ...], authorization: bytes, tell: Tell) -> None:
        """
        Compute whether the password is right and call *tell* with it later, on the loop.

        With None where too many wait already, of the app or from the address *client*.
        """
        given = _parse(authorization)
        expected = _line_of(lines, given[0]) if given is not None else None
        if given is None or expected is None:
            asyncio.get_running_loop().call_soon(tell, False)
            return
        check = _Check(app, client, self._mark(expected, given[1]), expected, given[1])
        known = self._tells.get((app, check.mark))
        if known is not None:
            known.append(tell)
        elif self._may_wait(check):
            self._tells[app, check.mark] = [tell]
            self._waiting.setdefault(app, deque()).append(check)
            self._work()
        else:
            asyncio.get_running_loop().call_soon(tell, None)

    def _may_wait(self, check: _Check) -> bool:
        waiting = self._waiting.get(check.app, ())
        return len(waiting) < _WAITING and sum(one.client == check.client for one in waiting) < _WAITING_OF_CLIENT

    def _work(self) -> None:
        """Begin what there are threads for: the next password of each app whose turn it is."""
        for app in [app for app in self._waiting if app not in self._busy][: _THREADS - len(self._busy)]:
            waiting = self._waiting[app]
            self._busy.add(app)
            self._compute(waiting.popleft())
            if not waiting:
                del self._waiting[app]

    def _compute(self, check: _Check) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, "passwords", initializer=_step_back)
        try:
            done = asyncio.get_running_loop().run_in_executor(self._threads, _is_right, check.expected, check.password)
        except RuntimeError:  # no thread can be had
            asyncio.get_running_loop().call_soon(self._finish, check, None)
        else:
            done.add_done_callback(lambda future: self._finish(check, _result_of(future)))

    def _finish(self, check: _Check, right: bool | None) -> None:
        self._busy.discard(check.app)
        if (waiting := self._waiting.pop(check.app, None)) is not None:
            self._waiting[check.app] = waiting  # behind all others
        if right is not None:
            known = self._right if right else self._wrong
            if len(known) >= _REMEMBERED:
                known.clear()
            known[check.mark] = monotonic() + _REMEMBERED_S
        self._work()
        for tell in self._tells.pop((check.app, check.mark), ()):
            tell(right)

    def _mark(self, expected: str, password: bytes) -> bytes:
        return hmac.digest(self._key, expected.encode() + b"\0" + password, "sha256")


def _result_of(done: asyncio.Future[bool]) -> bool | None:
    return None if done.cancelled() or done.exception() is not None else done.result()


def _step_back() -> None:
    with contextlib.suppress(OSError, AttributeError):  # then they are as quick as the loop
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _parse(authorization: bytes) -> tuple[str, bytes] | None:
    scheme, _, value = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(value.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _line_of(lines: tuple[str, ...], user: str) -> str | None:
    for line in lines:
        name, _, expected = line.partition(":")
        if name == user:
            return expected.strip()
    return None


def _is_right(expected: str, password: bytes) -> bool:
    if expected.startswith("{SHA}"):
        digest = base64.b64encode(hashlib.sha1(password, usedforsecurity=False).digest()).decode()
        return hmac.compare_digest(expected[5:], digest)
    if expected.startswith("$apr1$"):
        return hmac.compare_digest(expected, _apr1(password, expected.split("$")[2]))
    try:
        return bcrypt.checkpw(password[:72], expected.encode())
    except ValueError:
        return False


def _apr1(password: bytes, salt_text: str) -> str:
    """Return Apache's iterated MD5 of *password*, as htpasswd writes it."""
    salt = salt_text.encode()[:8]
    inner = hashlib.md5(password + salt + password, usedforsecurity=False).digest()
    start = password + b"$apr1$" + salt + (inner * (len(password) // 16 + 1))[: len(password)]
    size = len(password)
    while size:
        start += b"\0" if size & 1 else password[:1]
        size >>= 1
    digest = hashlib.md5(start, usedforsecurity=False).digest()
    for turn in range(1000):
        mixed = password if turn & 1 else digest
        mixed += salt if turn % 3 else b""
        mixed += password if turn % 7 else b""
        mixed += digest if turn & 1 else password
        digest = hashlib.md5(mixed, usedforsecurity=False).digest()
    return f"$apr1${salt.decode()}${_letters(digest)}"


def _letters(digest: bytes) -> str:
    order = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5))
    text = ""
    for high, middle, low in order:
        value = digest[high] << 16 | digest[middle] << 8 | digest[low]
        for _ in range(4):
            text += _ALPHABET[value & 63]
            value >>= 6
    return text + _ALPHABET[digest[11] & 63] + _ALPHABET[digest[11] >> 6]


_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
