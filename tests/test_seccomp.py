"""The calls that workers and inspectors give up, tried in processes of their own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from controller.seccomp import DENIED, PROCESSES, is_limited

TRY = """
import ctypes, errno, os, platform, sys, threading
from controller.kernel import forbid_new_privileges
from controller.seccomp import DENIED, give_up_calls, give_up_processes
forbid_new_privileges()
assert give_up_calls()
libc = ctypes.CDLL(None, use_errno=True)
column = ("x86_64", "aarch64").index(platform.machine())
allowed = []
for name, pair in DENIED.items():
    if pair[column] is not None and name not in ("reboot", "vhangup"):
        ctypes.set_errno(0)
        answer = libc.syscall(pair[column], -1, 0, 0, 0, 0, 0)
        if answer != -1 or ctypes.get_errno() != errno.EPERM:
            allowed.append((name, answer, ctypes.get_errno()))
assert not allowed, allowed
if os.fork() == 0:
    os._exit(0)
os.wait()
assert give_up_processes()
seen = []
thread = threading.Thread(target=seen.append, args=(1,))
thread.start()
thread.join()
assert seen == [1]
for start in (os.fork, lambda: os.execv("/bin/true", ["true"]), lambda: os.posix_spawn("/bin/true", ["true"], {})):
    try:
        start()
    except PermissionError:
        continue
    raise SystemExit("a process was started")
print(open("/proc/self/status").read())
"""

has_filter = platform.machine() in ("x86_64", "aarch64") and sys.platform == "linux"


def test_what_is_given_up_is_refused_for_good_and_threads_still_start() -> None:
    assert has_filter, "this machine has no filter of ours"
    done = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert is_limited(done.stdout)


def test_no_call_stands_twice() -> None:
    for column in (0, 1):
        numbers = [pair[column] for pair in (*DENIED.values(), *PROCESSES.values()) if pair[column] is not None]
        assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(("status", "limited"), [("Seccomp:\t2\n", True), ("Seccomp:\t0\n", False), ("", False)])
def test_a_status_tells_whether_calls_were_given_up(status: str, limited: bool) -> None:
    assert is_limited(f"Name:\toton\n{status}Seccomp_filters:\t2\n") is limited
