"""A capture as one HAR document, written while it is recorded and whole at whatever end it comes to."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

from controller.inspection.captures import Capture

Hide = Callable[[Any], Any]
"""Returns a value with every secret in it as `***`, however deep it stands."""


def render_har(capture: Capture, version: str, hide: Hide) -> Iterator[bytes]:
    """
    Yield the document in pieces; reading it to its end takes as long as the capture.

    What looks like a credential was masked where it was recorded; *hide* knows the app's secrets.
    """
    creator = json.dumps({"name": "oton", "version": version})
    yield b'{"log":{"version":"1.2","creator":%b,"pages":[],"entries":[' % creator.encode()
    between = b""
    for entry in capture.entries():
        yield between + b"\n" + json.dumps(_hidden(entry, hide), separators=(",", ":")).encode()
        between = b","
    lost = f"; {capture.lost} entries were lost" if capture.lost else ""
    comment = f"{capture.app}: ended because {capture.why_ended}{lost}; credentials and secrets are masked"
    yield b'\n],"comment":%b}}\n' % json.dumps(comment).encode()


def _hidden(entry: Any, hide: Hide) -> Any:
    shown = hide(entry)
    content = entry.get("response", {}).get("content", {})
    if content.get("encoding") == "base64":  # a body that is not text
        shown["response"]["content"]["text"] = _hide_binary(content["text"], hide)
    return shown


def _hide_binary(text: str, hide: Hide) -> str:
    # Byte for byte as characters: every value in ASCII is found, and nothing else of the body changes.
    body = base64.b64decode(text).decode("latin-1")
    return base64.b64encode(hide(body).encode("latin-1")).decode()
