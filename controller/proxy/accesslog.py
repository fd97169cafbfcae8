"""What the access log says of a request: one flat entry, without the query string unless asked for."""

from __future__ import annotations

from time import time
from typing import Any, Protocol

from controller.proxy.framing import Fields


class Told(Protocol):
    """An exchange that is over."""

    method: bytes
    target: bytes
    fields: Fields
    id: bytes
    status: int
    bytes_in: int
    bytes_out: int
    retries: int
    release: int
    why: str
    routed: bool

    def client_address(self) -> str: ...
    def app_name(self) -> str | None: ...
    def shows_query(self) -> bool: ...


def describe(told: Told, seconds: float, upstream: str | None) -> dict[str, Any]:
    """Return the log entry of an exchange that took *seconds*."""
    target = told.target if told.shows_query() else told.target.partition(b"?")[0]
    entry: dict[str, Any] = {
        "time": round(time(), 3),
        "id": told.id.decode(),
        "client": told.client_address(),
        "method": told.method.decode(),
        "host": told.fields.name,
        "path": target.decode("latin-1"),
        "status": told.status,
        "ms": round(seconds * 1000, 2),
        "in": told.bytes_in,
        "out": told.bytes_out,
        "app": told.app_name(),
    }
    if upstream is not None:
        entry["release"] = told.release
        entry["upstream"] = upstream
    if told.retries:
        entry["retries"] = told.retries
    if told.why:
        entry["why"] = told.why
    return entry
