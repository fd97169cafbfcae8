"""
Where a test may break a pass on purpose.

`OTON_FAILPOINT=intended=kill`, `before:StartReplica#2=raise`, `concluded=hang:5`: the point, after `#` its
how-manieth passing (1 unless said), and what happens there. Nothing happens unless the variable is set.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter

from controller.errors import Retry

VARIABLE = "OTON_FAILPOINT"

_passed: Counter[str] = Counter()
_lock = threading.Lock()


def pass_point(name: str, setting: str | None = None) -> None:
    """Pass the point *name*; break there if the variable asks for it."""
    setting = os.environ.get(VARIABLE) if setting is None else setting
    if not setting:
        return
    with _lock:
        _passed[name] += 1
        nth = _passed[name]
    where, _, action = setting.partition("=")
    point, _, wanted = where.partition("#")
    if point == name and nth == int(wanted or 1):
        _break(name, action)


def _break(name: str, action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action.startswith("hang"):
        time.sleep(float(action.partition(":")[2] or 5))
    if action == "raise":
        raise Retry(f"failpoint {name}")
