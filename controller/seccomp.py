"""
System calls that a process gives up for good: what a proxy never needs, and an intruder in one would.

A deny-list: the calls answer "not permitted", and everything else goes on as before. On Linux on x86_64 and aarch64;
elsewhere nothing is given up, and the answer is False.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys
from collections.abc import Iterable, Mapping

_X86_64, _AARCH64 = "x86_64", "aarch64"
_ARCHITECTURES: Mapping[str, int] = {_X86_64: 0xC000003E, _AARCH64: 0xC00000B7}
_COLUMN = {_X86_64: 0, _AARCH64: 1}
_X32 = 0x40000000
"""From here on x86_64 has every call a second time."""

DENIED: Mapping[str, tuple[int | None, int | None]] = {
    # another process's memory and descriptors
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440),
    # file systems, and files by number instead of by name
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "quotactl": (179, 60), "swapon": (167, 224), "swapoff": (168, 225),
    "fanotify_init": (300, 262),
    # namespaces
    "unshare": (272, 97), "setns": (308, 268), "sethostname": (170, 161), "setdomainname": (171, 162),
    # wide and young parts of the kernel
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "personality": (135, 92), "modify_ldt": (154, None), "lookup_dcookie": (212, 18),
    # the machine
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "clock_adjtime": (305, 266), "adjtimex": (159, 171), "acct": (163, 89), "syslog": (103, 116), "iopl": (172, None),
    "ioperm": (173, None), "vhangup": (153, 58),
}  # fmt: skip
"""Name -> number on x86_64 and on aarch64."""

PROCESSES: Mapping[str, tuple[int | None, int | None]] = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
}  # fmt: skip
"""What starts another program or process."""

_CLONE, _CLONE3 = (56, 220), 435
_CLONE_THREAD = 0x10000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
"""Offsets in what the kernel shows a filter (seccomp(2)); the low half of the argument on both machines."""

_PR_SET_SECCOMP, _FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def give_up_calls() -> bool:
    """Give up what no proxy needs; say whether that was done. Needs `no_new_privs`."""
    return _install(_deny(_numbers(DENIED)))


def give_up_processes() -> bool:
    """Give up starting processes and programs, but not threads; say whether that was done. Needs `no_new_privs`."""
    column = _COLUMN.get(platform.machine())
    if column is None:
        return False
    threads_only = (
        # The kernel cannot look into the structure that clone3 takes. Told that there is none, libc takes clone.
        (_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        (_EQUAL, 0, 3, _CLONE[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 1, 0, _CLONE_THREAD), (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    )  # fmt: skip
    # After the argument was loaded the number is gone: these come last.
    return _install((*_deny(_numbers(PROCESSES))[:-1], *threads_only, (_RETURN, 0, 0, _ALLOW)))


def is_limited(status: str) -> bool:
    """Say whether a process has given calls up, by its /proc/PID/status."""
    return any(line.split() == ["Seccomp:", str(_FILTER)] for line in status.splitlines())


_Instruction = tuple[int, int, int, int]


def _numbers(table: Mapping[str, tuple[int | None, int | None]]) -> list[int]:
    column = _COLUMN.get(platform.machine())
    return [] if column is None else sorted(number for pair in table.values() if (number := pair[column]) is not None)


def _deny(numbers: Iterable[int]) -> tuple[_Instruction, ...]:
    """Return a filter that answers EPERM to *numbers*, and to every call of another architecture."""
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    first: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, _ARCHITECTURES.get(platform.machine(), 0)), refuse,
        (_LOAD, 0, 0, _NUMBER),
    ]  # fmt: skip
    if platform.machine() == _X86_64:
        first += [(_AT_LEAST, 0, 1, _X32), refuse]
    each = [step for number in numbers for step in ((_EQUAL, 0, 1, number), refuse)]
    return (*first, *each, (_RETURN, 0, 0, _ALLOW))


def _install(instructions: tuple[_Instruction, ...]) -> bool:
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        return False
    code = b"".join(struct.pack("=HBBI", *one) for one in instructions)
    program = _Program(len(instructions), code)
    none = ctypes.c_ulong(0)
    libc = ctypes.CDLL(None, use_errno=True)
    mode = ctypes.c_ulong(_FILTER)
    return bool(libc.prctl(ctypes.c_int(_PR_SET_SECCOMP), mode, ctypes.byref(program), none, none) == 0)
