"""How hard random tests try: as often as a test run allows, or FUZZ times as often (make fuzz)."""

from __future__ import annotations

import os


def examples(count: int) -> int:
    """Return how many examples to try where an ordinary run tries *count*."""
    return count * int(os.environ.get("FUZZ", "1"))
