"""
The walls between inspectors, as files: a folder and a user of its own for each.

    state/proxy              2750 root:workers    the feed's socket, the snapshot: closed to inspectors
    state/proxy/inspect      0711 root            the desk's socket; a way through for whoever is inside
    state/proxy/inspect/APP  2710 app:workers     the inspector's working directory; workers reach its socket

An inspector stands inside of the closed folder from its start: what lies there but outside of its own is closed to it.
Not started as root, everything is one user's, and the folders are merely tidy.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Collection

from controller.knobs import ProxyUser
from controller.settings import pick_uid

INSPECT = "inspect"


def prepare_inspect(proxy: int, user: ProxyUser | None) -> None:
    """Make state/proxy/inspect in the open folder *proxy*. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(INSPECT, 0o700, dir_fd=proxy)
    fd = _open(INSPECT, proxy)
    try:
        if user is not None:
            os.fchown(fd, 0, 0)
        os.fchmod(fd, 0o700 if user is None else 0o711)
    finally:
        os.close(fd)


def open_folder(proxy: int, app: str, user: ProxyUser | None, workers: ProxyUser | None) -> int:
    """Return the folder of the app's inspector, made where it is not there yet, open. Raises OSError."""
    inspect = _open(INSPECT, proxy)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(app, 0o700, dir_fd=inspect)
        fd = _open(app, inspect)
    finally:
        os.close(inspect)
    if user is not None and workers is not None:
        os.fchown(fd, user.uid, workers.gid)
        os.fchmod(fd, 0o2710)  # setgid: the socket in it belongs to the workers' group, though its maker is not in it
    return fd


def remove_folder(proxy: int, app: str) -> None:
    """Remove what an app's inspectors left behind."""
    with contextlib.suppress(OSError):
        inspect = _open(INSPECT, proxy)
        try:
            shutil.rmtree(app, dir_fd=inspect)
        finally:
            os.close(inspect)


def derive_user(state: str, app: str, workers: ProxyUser | None, taken: Collection[int]) -> ProxyUser | None:
    """Return whom the app's inspector runs as: nobody's uid, the same at every start, and none of *taken*."""
    if workers is None or os.geteuid() != 0:
        return workers
    uid = pick_uid(hashlib.sha256(f"{state}\0{app}".encode()).digest(), {workers.uid, workers.gid, *taken})
    return workers if uid is None else ProxyUser(uid, uid)


def _open(name: str, folder: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
