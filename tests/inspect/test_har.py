"""A recording as a document: whole, and without a secret, in whatever form a body has."""

from __future__ import annotations

import base64
import json
from typing import Any

from controller.inspection.captures import Capture
from controller.inspection.har import render_har


def hide(value: Any) -> Any:
    return json.loads(json.dumps(value).replace("hush", "***"))


def document_of(*entries: dict[str, Any]) -> dict[str, Any]:
    capture = Capture(1, "shop", 60, lambda: None)
    for entry in entries:
        capture.put({"entry": entry})
    capture.put({"over": "it was closed"})
    whole = b"".join(render_har(capture, "1", hide))
    document: dict[str, Any] = json.loads(whole)["log"]
    return document


def test_a_secret_is_masked_at_any_depth_and_in_a_body_that_is_not_text():
    binary = b"\x00\xff hush \xfe\x01"
    log = document_of(
        {"request": {"headers": [{"name": "x", "value": "a hush b"}], "bodySize": 9}},
        {"response": {"content": {"encoding": "base64", "text": base64.b64encode(binary).decode()}}},
    )
    first, second = log["entries"]
    assert first == {"request": {"headers": [{"name": "x", "value": "a *** b"}], "bodySize": 9}}
    assert base64.b64decode(second["response"]["content"]["text"]) == b"\x00\xff *** \xfe\x01"
    assert log["comment"] == "shop: ended because it was closed; credentials and secrets are masked"


def test_a_recording_without_requests_is_a_whole_document():
    assert document_of()["entries"] == []
