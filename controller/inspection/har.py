"""A capture as one HAR document, written while it is recorded and whole at whatever end it comes to."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from controller.inspection.captures import Capture

Hide = Callable[[str], str]
"""Returns a text with every secret value in it as `***`."""


def render_har(capture: Capture, version: str, hide: Hide) -> Iterator[bytes]:
    """
    Yield the document in pieces; reading it to its end takes as long as the capture.

    What looks like a credential was masked where it was recorded; *hide* knows the app's secrets, wherever they stand.
    """
    creator = json.dumps({"name": "oton", "version": version})
    yield b'{"log":{"version":"1.2","creator":%b,"pages":[],"entries":[' % creator.encode()
    between = b""
    for entry in capture.entries():
        yield between + b"\n" + json.dumps(_hide_all(entry, hide), separators=(",", ":")).encode()
        between = b","
    lost = f"; {capture.lost} entries were lost" if capture.lost else ""
    comment = f"{capture.app}: ended because {capture.why_ended}{lost}; credentials and secrets are masked"
    yield b'\n],"comment":%b}}\n' % json.dumps(comment).encode()


def _hide_all(value: Any, hide: Hide) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, list):
        return [_hide_all(inner, hide) for inner in value]
    if not isinstance(value, Mapping):
        return value
    shown = {key: _hide_all(inner, hide) for key, inner in value.items()}
    if value.get("encoding") == "base64":  # a body that is not text
        shown["text"] = _hide_binary(str(value.get("text", "")), hide)
    return shown


def _hide_binary(text: str, hide: Hide) -> str:
    # Byte for byte as characters: every value in ASCII is found, and nothing else of the body changes.
    body = base64.b64decode(text).decode("latin-1")
    return base64.b64encode(hide(body).encode("latin-1")).decode()
