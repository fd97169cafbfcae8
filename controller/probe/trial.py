"""
One question over one connection, without ever waiting: told when its socket is ready, it goes one step on.

A kept connection that its other end closed meanwhile says nothing about the replica, so the question is asked
again over a new one.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from contextlib import suppress

from controller.ports import Target
from controller.probe import words
from controller.probe.board import Outcome
from controller.probe.head import Head, NotHttpError, is_body_whole, plain_body, read_head

DRAIN_BYTES = 64 * 1024
"""A longer body is not read to its end; the connection is given up instead."""
CHUNK_BYTES = 16 * 1024

_OUT_OF_SOCKETS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
)


def render_request(target: Target) -> bytes:
    """Return the request of an HTTP probe."""
    health = target.health
    path = health.path if target.method == "path" and health.path else "/"
    lines = [f"GET {path} HTTP/1.1", f"Host: {target.host}"]
    given = {name.lower() for name in health.headers}
    defaults = {"User-Agent": "oton-probe", "Accept": "*/*", "Accept-Encoding": "identity"}
    lines += [f"{name}: {value}" for name, value in defaults.items() if name.lower() not in given]
    if target.https:
        lines.append("X-Forwarded-Proto: https")
    lines += [f"{name}: {value}" for name, value in health.headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


class Trial:
    """Asks one replica again and again, over one kept connection where that lasts."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.socket: socket.socket | None = None
        self.interest = 0
        """What to wait for on the socket, in the words of `selectors`; 0: nothing."""
        self.asking = False
        self._reused = False
        self._connected = False
        self._out = b""
        self._in = b""
        self._head: Head | None = None

    def begin(self) -> Outcome | None:
        """Ask once more; an outcome at once means that it could not even be sent."""
        if self.asking or self._head is not None:
            self.close()  # the last answer's body is still coming
        self.asking, self._in, self._head = True, b"", None
        self._out = render_request(self.target)
        self._reused = self.socket is not None
        return self._connect() if self.socket is None else self._send(self.socket)

    def advance(self) -> Outcome | None:
        """Go one step on, now that the socket is ready; the outcome comes as soon as it is certain."""
        if self.socket is None:
            return None
        if not self._connected:
            return self._finish_connect(self.socket)
        if self._out:
            return self._send(self.socket)
        return self._receive(self.socket)

    def expire(self) -> Outcome:
        """The time is up."""
        if self._head is not None:
            return self._answered(self._head)
        return self._end(Outcome(False, self._connected, words.render_timeout(self.target, connected=self._connected)))

    def close(self) -> None:
        """Give the connection up."""
        if self.socket is not None:
            with suppress(OSError):
                self.socket.close()
        self.socket, self.interest, self._connected, self.asking, self._head = None, 0, False, False, None

    def _connect(self) -> Outcome | None:
        address, port = self.target.address or "", self.target.port or 0
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            self.socket = socket.socket(family, socket.SOCK_STREAM)
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = self.socket.connect_ex((address, port))
        except OSError as error:
            return self._broken(error.errno or 0)
        if code in (0, errno.EINPROGRESS):
            self.interest = selectors.EVENT_WRITE
            return None
        return self._broken(code)

    def _finish_connect(self, sock: socket.socket) -> Outcome | None:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            return self._broken(code)
        self._connected = True
        return self._send(sock)

    def _send(self, sock: socket.socket) -> Outcome | None:
        try:
            self._out = self._out[sock.send(self._out) :]
        except BlockingIOError:
            pass
        except OSError as error:
            return self._lost(reset=error.errno == errno.ECONNRESET)
        self.interest = selectors.EVENT_WRITE if self._out else selectors.EVENT_READ
        return None

    def _receive(self, sock: socket.socket) -> Outcome | None:
        try:
            data = sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            return self._lost(reset=error.errno == errno.ECONNRESET)
        if not self.asking and self._head is None:
            self.close()  # closed while idle, or it speaks unasked
            return None
        return self._take(data) if data else self._lost(reset=False)

    def _take(self, data: bytes) -> Outcome | None:
        self._in += data
        if self._head is None:
            try:
                self._head = read_head(self._in)
            except NotHttpError:
                if self._reused:
                    return self._again()
                return self._end(Outcome(False, True, words.render_not_http(self.target, self._in)))
            if self._head is None:
                return None
            self._in = self._in[self._head.size :]
        return self._judge(self._head)

    def _judge(self, head: Head) -> Outcome | None:
        whole = is_body_whole(self._in, head)
        if self._is_accepted(head) or whole or len(plain_body(self._in, head.chunked)) > words.BODY_BYTES:
            outcome = self._answered(head) if self.asking else None
            self._settle(head, whole=whole)
            return outcome
        return None

    def _settle(self, head: Head, *, whole: bool) -> None:
        """Keep the connection if it can carry another question, now or once the body has come."""
        if not head.keep or len(self._in) > DRAIN_BYTES:
            self.close()
        elif whole:
            exact = head.chunked or len(self._in) == head.length
            self._head, self._in = None, b""
            if not exact:
                self.close()

    def _answered(self, head: Head) -> Outcome:
        accepted = self._is_accepted(head)
        self.asking = False
        return Outcome(accepted, True, words.render_answer(self.target, head, self._in, accepted=accepted))

    def _is_accepted(self, head: Head) -> bool:
        if self.target.method == "path":
            return self.target.health.accepts(head.status)
        return head.status < 500

    def _lost(self, *, reset: bool) -> Outcome | None:
        """The connection ended."""
        if self._head is not None:
            head, asked = self._head, self.asking
            outcome = self._answered(head) if asked else None  # a body without a length ends like this
            self.close()
            return outcome
        if self._reused and not self._in:
            return self._again()
        # A published port's proxy accepts for an app that does not listen: that is no sign of life.
        alive = bool(self._in) or not words.is_loopback(self.target)
        return self._end(Outcome(False, alive, words.render_closed(self.target, self._in, reset=reset)))

    def _again(self) -> Outcome | None:
        self.close()
        return self.begin()

    def _broken(self, code: int) -> Outcome:
        if code in _OUT_OF_SOCKETS:
            return self._end(Outcome(False, False, f"not asked: {errno.errorcode.get(code, code)} here", counts=False))
        if code == errno.ECONNREFUSED:
            return self._end(Outcome(False, False, words.render_refused(self.target)))
        return self._end(Outcome(False, False, words.render_trouble(self.target, _say(code))))

    def _end(self, outcome: Outcome) -> Outcome:
        self.close()
        return outcome


def _say(code: int) -> str:
    match code:
        case errno.EHOSTUNREACH | errno.ENETUNREACH:
            return "no route to it"
        case errno.ETIMEDOUT:
            return "it does not answer at all"
        case _:
            return os.strerror(code).lower()
