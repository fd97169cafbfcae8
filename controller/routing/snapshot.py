"""
The table as it lies on disk.

Addresses in it are good for one boot of the machine: afterwards a container has another one, and what answers
at the old may be another's. Of a snapshot from before, only the routes are taken, so that they answer 503.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller.routing.entries import decode_table
from controller.routing.table import Table


def parse_snapshot(data: bytes, boot: str) -> tuple[Table, Mapping[str, Any]]:
    """
    Return the table that *data* holds for the boot *boot*, and all fields as they were read.

    Raises ValueError where it is torn, or something else.
    """
    try:
        raw = json.loads(data)
        table = decode_table(raw)
        known = raw.get("boot", "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, MemoryError) as error:
        raise ValueError(f"no route snapshot: {error!r}") from error
    if known == boot:
        return table, raw
    bare = {name: replace(routes, upstreams=()) for name, routes in table.apps.items()}
    return replace(table, apps=bare), {**raw, "leaving": {}}
