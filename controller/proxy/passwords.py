"""
Basic authentication by htpasswd lines: bcrypt, Apache's MD5 (`$apr1$`) and SHA-1 (`{SHA}`).

Slow hashes are computed in one thread of their own, and what was found right is remembered for a while under a
keyed hash, so that a page with fifty images costs one bcrypt and the loop never waits for any.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import bcrypt

_REMEMBERED_S = 300.0
_REMEMBERED = 4096
_WAITING = 64


class Passwords:
    """Checks passwords for one worker."""

    def __init__(self) -> None:
        self._key = os.urandom(16)
        self._known: dict[bytes, tuple[float, bool]] = {}
        self._waiting = 0
        self._thread: ThreadPoolExecutor | None = None

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
        known = self._known.get(self._mark(expected, given[1]))
        return known[1] if known is not None and known[0] > monotonic() else None

    def check(self, lines: tuple[str, ...], authorization: bytes, tell: Callable[[bool], None]) -> None:
        """Compute whether the password is right and call *tell* with it later, on the loop."""
        given = _parse(authorization)
        expected = _line_of(lines, given[0]) if given is not None else None
        loop = asyncio.get_running_loop()
        if given is None or expected is None or self._waiting >= _WAITING:
            loop.call_soon(tell, False)
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "passwords")
        self._waiting += 1
        mark = self._mark(expected, given[1])
        future = loop.run_in_executor(self._thread, _is_right, expected, given[1])
        future.add_done_callback(lambda done: self._remember(mark, done, tell))

    def _remember(self, mark: bytes, done: asyncio.Future[bool], tell: Callable[[bool], None]) -> None:
        self._waiting -= 1
        right = not done.cancelled() and done.exception() is None and done.result()
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[mark] = (monotonic() + _REMEMBERED_S, right)
        tell(right)

    def _mark(self, expected: str, password: bytes) -> bytes:
        return hmac.digest(self._key, expected.encode() + b"\0" + password, "sha256")


def is_supported(line: str) -> bool:
    """Say whether an htpasswd line can be checked."""
    user, _, expected = line.partition(":")
    return bool(user) and expected.startswith(("$2y$", "$2b$", "$2a$", "$apr1$", "{SHA}"))


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
