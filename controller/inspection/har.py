"""A capture as one HAR document, written while it is recorded and whole at whatever end it comes to."""

from __future__ import annotations

import json
from collections.abc import Iterator

from controller.inspection.captures import Capture


def render_har(capture: Capture, version: str) -> Iterator[bytes]:
    """Yield the document in pieces; reading it to its end takes as long as the capture."""
    creator = json.dumps({"name": "oton", "version": version})
    yield b'{"log":{"version":"1.2","creator":%b,"pages":[],"entries":[' % creator.encode()
    between = b""
    for entry in capture.entries():
        yield between + b"\n" + json.dumps(entry, separators=(",", ":")).encode()
        between = b","
    lost = f"; {capture.lost} entries were lost" if capture.lost else ""
    comment = f"{capture.app}: ended because {capture.why_ended}{lost}; credentials are masked"
    yield b'\n],"comment":%b}}\n' % json.dumps(comment).encode()
