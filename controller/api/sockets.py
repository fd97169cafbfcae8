"""Where the API listens: the Unix socket with its folder's rights, and OTON_API."""

from __future__ import annotations

import grp
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from controller.api.room import with_room
from controller.errors import Refused
from controller.knobs import is_address, is_loopback

GROUP = "oton"
BACKLOG = 128


def open_socket(path: Path) -> socket.socket:
    """
    Return the listening API socket at *path*: 0660 in a folder 0750 of group oton where that exists, else 0700.

    A socket that nobody answers on is replaced. Raises Refused where another service answers, or the place is taken.
    """
    group = find_group()
    try:
        prepare_folder(path.parent, group)
        clear_place(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            bind_private(listener, path, group)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise Refused(f"OTON_SOCKET: {path} cannot be made: {error.strerror or error}") from error
    listener.listen(BACKLOG)
    return with_room(listener)


def find_group() -> int | None:
    """Return the id of group oton, where we may give files to it."""
    try:
        gid = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None
    return gid if os.geteuid() == 0 or gid in os.getgroups() else None


def prepare_folder(folder: Path, group: int | None) -> None:
    """Make the folder if it is not there; one of our own gets its rights, any other keeps them."""
    made = not folder.exists()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not made and (folder.name != GROUP or folder.stat().st_uid != os.geteuid()):
        return
    if group is not None:
        os.chown(folder, -1, group)
    folder.chmod(0o750 if group is not None else 0o700)


def clear_place(path: Path) -> None:
    """Remove a socket that nobody answers on. Raises Refused where somebody does, or it is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Refused(f'OTON_SOCKET: found "{path}" which is no socket, allowed: a path that is free')
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise Refused(f"OTON_SOCKET: another service answers at {path}; stop it or choose another path")


def bind_private(listener: socket.socket, path: Path, group: int | None) -> None:
    """Bind so that there is no moment in which others may connect."""
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    if group is not None:
        os.chown(path, -1, group)
    path.chmod(0o660 if group is not None else 0o600)


def open_tcp(address: tuple[str, int]) -> socket.socket:
    """
    Return the listening socket of OTON_API; a host name stands for every address of this machine.

    Raises Refused where the address is taken or not ours.
    """
    host, port = address
    everywhere = not is_address(host)
    both = everywhere and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server(
            ("" if everywhere else host, port),
            family=socket.AF_INET6 if both or ":" in host else socket.AF_INET,
            dualstack_ipv6=both,
            backlog=BACKLOG,
        )
    except OSError as error:
        why = error.strerror or str(error)
        raise Refused(f'OTON_API: found "{_show(address)}": {why}; choose another, or set it to off') from error
    return with_room(listener)


@dataclass(frozen=True, slots=True)
class SocketFile:
    """The file of a Unix socket, told apart from one that another service has put in its place since."""

    path: Path
    identity: tuple[int, int]

    @classmethod
    def at(cls, path: Path) -> SocketFile:
        """Return the file that is at *path* now."""
        return cls(path, _identity(path))

    def remove(self) -> None:
        """Remove the file if it is still this one."""
        with suppress(OSError):
            if _identity(self.path) == self.identity:
                self.path.unlink()


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return (found.st_dev, found.st_ino)


@dataclass(frozen=True, slots=True)
class Listening:
    """Sockets that the API is served on; *certificate*, a file of chain and key, puts TLS around them."""

    sockets: tuple[socket.socket, ...]
    certificate: Path | None = None
    file: SocketFile | None = None
    """What a service that ends takes away with it."""


def open_sockets(
    path: Path, api: tuple[str, int] | None, certificate_for: Callable[[str], Path]
) -> tuple[Listening, ...]:
    """
    Return all that the API listens on: the Unix socket, and OTON_API unless it is off.

    Beyond loopback a token would cross a network in the clear: *certificate_for* names the file of the host's
    certificate, and raises Refused where there is none.
    """
    certificate = None if api is None or is_loopback(api[0]) else _find_certificate(api, certificate_for)
    tcp = None if api is None else open_tcp(api)
    try:
        local = open_socket(path)
    except Refused:
        if tcp is not None:
            tcp.close()
        raise
    file = SocketFile.at(path)
    if tcp is None:
        return (Listening((local,), file=file),)
    if certificate is None:
        return (Listening((local, tcp), file=file),)
    return (Listening((local,), file=file), Listening((tcp,), certificate))


def _find_certificate(api: tuple[str, int], certificate_for: Callable[[str], Path]) -> Path:
    host = api[0]
    try:
        return certificate_for(host)
    except Refused as error:
        raise Refused(
            f'OTON_API: found "{_show(api)}", which is beyond loopback, and {error}; start without it, then:'
            f" oton cert add {host} --cert FILE --key FILE"
        ) from error


def _show(address: tuple[str, int]) -> str:
    """Return an address as OTON_API says it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
