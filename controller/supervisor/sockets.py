"""The public listening sockets: bound once here, inherited by every worker, or handed to us by systemd."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass

from controller.errors import Refused

_BACKLOG = 4096
"""Connections that may wait while workers change places; the kernel lowers it to its own limit."""

_FIRST_HANDED_DOWN = 3


@dataclass(frozen=True, slots=True)
class Public:
    """What the world connects to."""

    plain: tuple[socket.socket, ...]
    tls: tuple[socket.socket, ...] = ()

    def __iter__(self) -> Iterator[socket.socket]:
        return iter((*self.plain, *self.tls))

    def describe(self) -> tuple[str, ...]:
        """Return the addresses as URLs."""
        return tuple(
            f"{scheme}://{render_address(sock)}"
            for scheme, group in (("http", self.plain), ("https", self.tls))
            for sock in group
        )

    def close(self) -> None:
        """Close our copies; workers keep theirs."""
        for sock in self:
            sock.close()


def open_public(bind: tuple[str, ...], port: int, tls_port: int | None, environ: MutableMapping[str, str]) -> Public:
    """
    Return the sockets that systemd handed down, and bind those that it did not.

    Raises Refused with one line that names the variable and the port. Takes systemd's variables out of
    *environ*, so that no child takes them for its own.
    """
    handed = _take_handed_down(environ)
    tls = [sock for name, sock in handed if _is_tls(name, sock, tls_port)]
    plain = [sock for _, sock in handed if sock not in tls]
    opened: list[socket.socket] = []
    try:
        if not plain:
            plain = _bind(bind, port, "PORT")
            opened += plain
        if not tls and tls_port is not None:
            tls = _bind(bind, tls_port, "TLS_PORT")
    except BaseException:
        for sock in opened:
            sock.close()
        raise
    return Public(tuple(plain), tuple(tls))


def render_address(sock: socket.socket) -> str:
    """Return a socket's own address as host:port, or its path."""
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return str(name)
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"{host}:{name[1]}"


def _bind(bind: tuple[str, ...], port: int, variable: str) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for address in bind or ("0.0.0.0", "::"):
            try:
                sockets.append(_listen(address, port))
            except OSError as error:
                if not bind and address == "::" and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    continue  # a machine without IPv6
                raise Refused(_say_refused(variable, address, port, error)) from error
    except Refused:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _say_refused(variable: str, address: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{variable}: port {port} is taken on {address}; stop what uses it or choose another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{variable}: port {port} may not be opened on {address}; below 1024 it needs CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"OTON_BIND: {address} is no address of this machine"
    return f"{variable}: port {port} cannot be opened on {address}: {error.strerror}"


def _take_handed_down(environ: MutableMapping[str, str]) -> list[tuple[str, socket.socket]]:
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    found = []
    for index in range(int(count)):
        fd = _FIRST_HANDED_DOWN + index
        os.set_inheritable(fd, False)
        try:
            sock = socket.socket(fileno=fd)
        except OSError as error:
            raise Refused(f"LISTEN_FDS: descriptor {fd} is no socket; check the .socket unit") from error
        if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise Refused(f"LISTEN_FDS: descriptor {fd} does not listen; the .socket unit needs ListenStream=")
        sock.setblocking(False)
        found.append((names[index] if index < len(names) else "", sock))
    return found


def _is_tls(name: str, sock: socket.socket, tls_port: int | None) -> bool:
    if name in ("tls", "https"):
        return True
    address = sock.getsockname()
    with contextlib.suppress(IndexError, TypeError):
        return tls_port is not None and name not in ("plain", "http") and address[1] == tls_port
    return False
