"""
Where a test may break a pass on purpose.

`OTON_FAILPOINT=intended=kill`, `before:StartReplica#2=raise`, `concluded=hang:5`: the point, after `#` its
how-manieth passing (1 unless said), and what happens there. Nothing happens unless the variable is set.

`OTON_FAILPOINT=@FILE` reads the same from a file, which is removed as the point breaks: a process that is
started again goes on, and a test can break one service at many points, one after the other.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

from controller.errors import Retry

VARIABLE = "OTON_FAILPOINT"

_passed: Counter[str] = Counter()
_lock = threading.Lock()


def pass_point(name: str, setting: str | None = None) -> None:
    """Pass the point *name*; break there if the variable asks for it."""
    setting = os.environ.get(VARIABLE) if setting is None else setting
    if not setting:
        return
    file = Path(setting[1:]) if setting.startswith("@") else None
    with _lock:
        order = _read(file) if file else setting
        where, _, action = order.partition("=")
        point, _, wanted = where.partition("#")
        if point != name:
            return
        _passed[order] += 1
        if _passed[order] != int(wanted or 1):
            return
        if file:
            _passed[order] = 0
            file.unlink(missing_ok=True)
    _break(name, action)


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""


def _break(name: str, action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action.startswith("hang"):
        time.sleep(float(action.partition(":")[2] or 5))
    if action == "raise":
        raise Retry(f"failpoint {name}")
