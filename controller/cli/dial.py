"""Byte streams to a service: a socket, TCP, or the system's own ssh that runs `oton dial-stdio` at the other end."""

from __future__ import annotations

import socket
import subprocess
import typing
from collections.abc import Iterable
from urllib.parse import urlsplit

import httpcore
import httpx

from controller.cli.target import Target

SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10")
SAID_BYTES = 4096


def render_command(target: Target) -> str:
    """Return the ssh command as a person may try it."""
    return " ".join(ssh_command(target))


def ssh_command(target: Target) -> list[str]:
    """Return the command that reaches the service's stdin and stdout."""
    parts = urlsplit(target.place)
    port = ["-p", str(parts.port)] if parts.port else []
    user = f"{parts.username}@" if parts.username else ""
    return [*SSH, *port, "--", f"{user}{parts.hostname}", "oton", "dial-stdio"]


def open_socket(target: Target, timeout_s: float) -> socket.socket:
    """Return a connected socket to the service, before any TLS."""
    if target.kind == "unix":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout_s)
            sock.connect(target.place)
        except OSError:
            sock.close()
            raise
        sock.settimeout(None)
        return sock
    if target.kind == "ssh":
        return SshSocket.open(target)
    parts = urlsplit(target.place)
    port = parts.port or (443 if target.kind == "https" else 80)
    sock = socket.create_connection((parts.hostname or "", port), timeout_s)
    sock.settimeout(None)
    return sock


class SshSocket(socket.socket):
    """Our end of a socket pair whose other end is an ssh process's stdin and stdout."""

    process: subprocess.Popen[bytes] | None = None
    heard: bytes = b""

    @classmethod
    def open(cls, target: Target) -> SshSocket:
        """Start ssh and return the socket to it."""
        ours, theirs = socket.socketpair()
        try:
            process = subprocess.Popen(
                ssh_command(target), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.PIPE
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        sock = cls(ours.family, ours.type, ours.proto, fileno=ours.detach())
        sock.process = process
        return sock

    def said(self) -> str:
        """Return what ssh said about why it ended; "" while it runs."""
        process = self.process
        if process is None or process.stderr is None:
            return ""
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            return ""
        self.heard += process.stderr.read(SAID_BYTES)
        lines = self.heard.decode("utf-8", "replace").strip().splitlines()
        if process.returncode == 127:
            return "the program oton is not there on the other side"
        return lines[-1] if lines else f"ssh ended with {process.returncode}"

    def close(self) -> None:
        """Close the socket and end ssh."""
        super().close()
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


class SocketStream(httpcore.NetworkStream):
    """One connected socket, as httpcore reads and writes it."""

    def __init__(self, sock: SshSocket) -> None:
        self._sock = sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what is there; "" at the end."""
        self._sock.settimeout(timeout)
        try:
            data = self._sock.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            # What ssh said is the reason; that its end of the pipe broke is only how we came to know.
            raise httpcore.ReadError(self._sock.said() or str(error)) from None
        if not data and (said := self._sock.said()):
            raise httpcore.ReadError(said)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of *buffer*."""
        self._sock.settimeout(timeout)
        try:
            self._sock.sendall(buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(self._sock.said() or str(error)) from None

    def close(self) -> None:
        """Close it."""
        self._sock.close()

    def get_extra_info(self, info: str) -> typing.Any:
        """Tell the connection pool whether the other side has closed."""
        if info == "is_readable":
            return False
        return self._sock if info == "socket" else None


class SshBackend(httpcore.NetworkBackend):
    """Opens connections by starting ssh."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[typing.Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Start one ssh and return its stream."""
        try:
            return SocketStream(SshSocket.open(self._target))
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error


class SshTransport(httpx.HTTPTransport):
    """httpx over ssh: the same pool as always, on another way to connect."""

    def __init__(self, target: Target) -> None:
        super().__init__(verify=False)  # ssh is the wall here; there is no TLS inside
        self._pool = httpcore.ConnectionPool(network_backend=SshBackend(target), max_connections=4)
