"""
What we ask of the Linux kernel beyond the standard library: a few calls of prctl, and files in memory.

Elsewhere they do nothing and say so.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

_PDEATHSIG, _NAME, _SUBREAPER, _NO_NEW_PRIVS = 1, 15, 36, 38
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _prctl(option: int, value: int | bytes) -> bool:
    if _libc is None:
        return False
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    none = ctypes.c_ulong(0)
    return bool(_libc.prctl(ctypes.c_int(option), argument, none, none, none) == 0)


def die_with_parent() -> bool:
    """Have this process killed when its parent ends; lost at a change of user."""
    return _prctl(_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> bool:
    """Become the parent of descendants whose own parent ends."""
    return _prctl(_SUBREAPER, 1)


def name_process(name: str) -> bool:
    """Show *name* (15 bytes of it) in process lists."""
    return _prctl(_NAME, name.encode()[:15])


def drop_privileges(uid: int, gid: int) -> None:
    """Become *uid* and *gid* for good: no other groups, and no program run from here gains any right."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    forbid_new_privileges()


def forbid_new_privileges() -> bool:
    """Make setuid programs and file capabilities void for this process and its children."""
    return _prctl(_NO_NEW_PRIVS, 1)


def tighten_umask() -> None:
    """Let nobody but our own user write what we make from now on, whatever we were started with."""
    os.umask(os.umask(0o022) | 0o022)


def parent_of(pid: int) -> int | None:
    """Return the number of a process's parent; None where there is no such process, or no way to know."""
    try:
        # The name in brackets may hold anything, brackets too.
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def peer_process(sock: socket.socket) -> int | None:
    """Return the process at the other end of a Unix socket, as the kernel noted it when it connected; None: no way."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid)


def hold_process(pid: int) -> int | None:
    """Return a descriptor of process *pid*, which never means another one that gets its number; None: not to be had."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def kill_held(process: int | None) -> None:
    """Kill what `hold_process` returned, if it still runs."""
    if process is not None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)


def seal_in_memory(name: str, data: bytes) -> int | None:
    """Return a file in memory with *data*, which nobody who gets it can change; None where there is no such thing."""
    if not hasattr(os, "memfd_create"):
        return None
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    return fd
