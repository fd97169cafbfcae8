"""
What the access log says of a request: one line of JSON, without the query string unless asked for.

Written by hand, since a general encoder costs as much as a fifth of the whole request; every field that a client can
put something into goes through the encoder once, and is remembered.
"""

from __future__ import annotations

import json
import re
from time import time
from typing import Protocol

from controller.proxy.framing import Fields

_LINE_END = re.compile(rb"[\r\n]")
_REQUEST_LINE = re.compile(rb"[A-Z]+ ")
_STRANGE_LENGTH = 8


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
    target = told.target
    if b"?" in target and not told.shows_query():
        target = target.partition(b"?")[0]
    more = f',"release":{told.release},"upstream":{_text(upstream)}' if upstream is not None else ""
    if told.retries or told.why:
        more += f',"retries":{told.retries},"why":{_text(told.why)}'
    line = (
        f'{{"time":{time():.3f},"id":"{told.id.decode()}","client":{_text(told.client_address())},'
        f'"method":{_text(told.method)},"host":{_text(told.fields.name)},"path":{_text(target)},'
        f'"status":{told.status},"ms":{seconds * 1000:.2f},"in":{told.bytes_in},"out":{told.bytes_out},'
        f'"app":{_text(told.app_name())}{more}}}\n'
    )
    return line.encode()


def render_refusal(name: str, client: str, data: bytes, status: int, why: str, *, shows_query: bool) -> bytes:
    """Return the log line of a request that could not be read; of *data* it shows where the first line begins."""
    # To whatever could be read as its end, and of what is no request line only enough to tell what it was: what follows
    # may be a header that opens a door.
    line = _LINE_END.split(data[:_TEXT_LENGTH], maxsplit=1)[0]
    if not _REQUEST_LINE.match(line):
        line = line[:_STRANGE_LENGTH]
    if not shows_query:
        line = line.partition(b"?")[0]
    entry = {
        "time": round(time(), 3), "id": name, "client": client, "line": line.decode("latin-1"), "status": status,
        "app": None, "why": why,
    }  # fmt: skip
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


_texts: dict[str | bytes | None, str] = {}
_TEXTS, _TEXT_LENGTH = 4096, 256
"""Bounds of what is remembered: the same addresses, paths and names come again and again."""


def _text(value: str | bytes | None) -> str:
    try:
        return _texts[value]
    except KeyError:
        text = json.dumps(value.decode("latin-1") if isinstance(value, bytes) else value)
    if len(_texts) >= _TEXTS:
        _texts.clear()
    if len(text) <= _TEXT_LENGTH:
        _texts[value] = text
    return text
