"""
What cannot be seen from outside, kept in one SQLite file.

Knows SQLite and how our values are written down. Knows nothing of Docker, the watched directory, workers or
HTTP. One thread owns the only connection; rows never leave this room, values do.
"""

from controller.store.store import Store

__all__ = ["Store"]
