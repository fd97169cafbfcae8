"""
What the access log says of a request: one line of JSON, without the query string unless asked for.

Written by hand, since a general encoder costs as much as a fifth of the whole request; whatever a client can put
into a field with a character that JSON escapes goes through the encoder all the same.
"""

from __future__ import annotations

import json
from time import time
from typing import Protocol

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

    def client_address(self) -> str: ...
    def app_name(self) -> str | None: ...
    def shows_query(self) -> bool: ...


def render_line(told: Told, seconds: float, upstream: str | None) -> bytes:
    """Return the log line of an exchange that took *seconds*, with its line end."""
    target = told.target if told.shows_query() else told.target.partition(b"?")[0]
    app = told.app_name()
    more = f',"release":{told.release},"upstream":{_text(upstream)}' if upstream is not None else ""
    if told.retries:
        more += f',"retries":{told.retries}'
    if told.why:
        more += f',"why":{_text(told.why)}'
    line = (
        f'{{"time":{time():.3f},"id":"{told.id.decode()}","client":{_text(told.client_address())},'
        f'"method":"{told.method.decode()}","host":"{told.fields.name}","path":{_text(target.decode("latin-1"))},'
        f'"status":{told.status},"ms":{seconds * 1000:.2f},"in":{told.bytes_in},"out":{told.bytes_out},'
        f'"app":{"null" if app is None else _text(app)}{more}}}\n'
    )
    return line.encode()


def render_refusal(name: str, client: str, status: int, why: str) -> bytes:
    """Return the log line of bytes that were no request."""
    entry = {"time": round(time(), 3), "id": name, "client": client, "status": status, "app": None, "why": why}
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def _text(value: str) -> str:
    if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
        return f'"{value}"'
    return json.dumps(value)
