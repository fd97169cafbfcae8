"""
Captures: flows as entries of a HAR file, without anything that opens a door.

Credentials are masked before an entry leaves this process. Every recording has an end, in time and in size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from mitmproxy import flowfilter, http
from mitmproxy.addons.savehar import SaveHar

from controller.proxy.detour import TROUBLE

BODY_BYTES = 64 * 1024
"""So much of each body is recorded."""

MASK = "***"
_HEADERS = frozenset(("authorization", "proxy-authorization", "cookie", "set-cookie", "www-authenticate"))
_SECRET = re.compile(
    r"token|secret|passw|pwd|api[-_]?key|access[-_]?key|auth|credential|signature|session|jwt|code$|^sig$|^key$",
    re.IGNORECASE,
)
"""Names of headers, fields and parameters whose values open doors."""
_JSON = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:\s*)("(?:[^"\\]|\\.)*"|[-0-9.eE+]+)')
_QUERY = re.compile(r"([?&])([^=&#\s]+)=([^&#\s]*)")


class Recording:
    """One capture under way; *send* takes its entries."""

    def __init__(self, number: int, wanted: str, size_bytes: int, send: Callable[[dict[str, Any]], object]) -> None:
        """Raises ValueError where *wanted* is no filter that mitmproxy understands."""
        self.number = number
        self._matches: Callable[[http.HTTPFlow], bool] | None = flowfilter.parse(wanted) if wanted else None
        self._left = size_bytes
        self._send = send
        self.is_full = False

    def take(self, flow: http.HTTPFlow) -> None:
        """Send a flow on if it is wanted, and say once that no more has room."""
        if self.is_full or (self._matches is not None and not self._matches(flow)):
            return
        entry = render_entry(flow)
        size = len(json.dumps(entry))
        if size > self._left:
            self.is_full = True
            self._send({"captured": self.number, "full": True})
            return
        self._left -= size
        self._send({"captured": self.number, "entry": entry})


class Recorder:
    """The addon that keeps the first part of bodies while there is a recording, and hands ended flows to it."""

    name = "oton-recorder"

    def __init__(self) -> None:
        self._recordings: dict[int, Recording] = {}

    def begin(self, recording: Recording) -> None:
        """Record from now on."""
        self._recordings[recording.number] = recording

    def end(self, number: int) -> None:
        """Record no more for *number*."""
        self._recordings.pop(number, None)

    def end_all(self) -> None:
        """Record no more: nobody takes it."""
        self._recordings.clear()

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Keep a copy of what flows."""
        if self._recordings:
            flow.metadata["oton-request"] = _listen_in(flow.request)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Keep a copy of what flows."""
        if self._recordings and flow.response is not None:
            flow.metadata["oton-response"] = _listen_in(flow.response)

    def response(self, flow: http.HTTPFlow) -> None:
        """Hand on a flow that has ended; a WebSocket's handshake counts as one."""
        for recording in tuple(self._recordings.values()):
            recording.take(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        """Hand on a flow that was broken off."""
        self.response(flow)


def _listen_in(message: http.Message) -> bytearray:
    """Return a buffer that takes the first part of the body if it flows through."""
    kept = bytearray()
    if message.stream:
        through = message.stream if callable(message.stream) else None

        def keep(data: bytes) -> bytes | Iterable[bytes]:
            kept.extend(data[: BODY_BYTES - len(kept)])
            return through(data) if through is not None else data

        message.stream = keep
    return kept


def render_entry(flow: http.HTTPFlow) -> dict[str, Any]:
    """Return *flow* as an entry of a HAR file, with credentials masked."""
    copy = flow.copy()  # type: ignore[no-untyped-call]
    _complete(copy.request, flow.request, flow.metadata.get("oton-request"))
    if copy.response is not None and flow.response is not None:
        _complete(copy.response, flow.response, flow.metadata.get("oton-response"))
        copy.response.headers.pop(TROUBLE.decode(), None)
    if flow.request.headers.get("X-Forwarded-Proto") == "https":
        copy.request.scheme, copy.request.port = "https", 443
    entry: dict[str, Any] = SaveHar().flow_entry(copy, set())
    mask_entry(entry)
    return entry


def _complete(copy: http.Message, message: http.Message, kept: bytearray | None) -> None:
    content = message.raw_content if message.raw_content is not None else bytes(kept or b"")
    whole = len(content) <= BODY_BYTES and (message.raw_content is not None or len(content) < BODY_BYTES)
    if not whole:
        copy.headers.pop("Content-Encoding", None)  # half of a compressed body cannot be read
    copy.raw_content = content[:BODY_BYTES]


def mask_entry(entry: dict[str, Any]) -> None:
    """Mask what opens doors: in headers, cookies, the URL, forms and JSON."""
    request, response = entry["request"], entry["response"]
    for side in (request, response):
        for header in side["headers"]:
            name = header["name"].lower()
            if name in _HEADERS or _SECRET.search(name):
                header["value"] = MASK
            else:
                header["value"] = mask_text(header["value"])
        for cookie in side["cookies"]:
            cookie["value"] = MASK
    request["url"] = mask_text(_mask_userinfo(request["url"]))
    for pair in (*request["queryString"], *request.get("postData", {}).get("params", ())):
        if _SECRET.search(pair["name"]):
            pair["value"] = MASK
    if "redirectURL" in response:
        response["redirectURL"] = mask_text(response["redirectURL"])
    _mask_bodies(request, response)


def _mask_bodies(request: dict[str, Any], response: dict[str, Any]) -> None:
    posted = request.get("postData")
    if posted is not None and posted.get("text"):
        posted["text"] = mask_text("?" + posted["text"])[1:]
    content = response["content"]
    if content.get("text") and content.get("encoding") != "base64":
        content["text"] = mask_text(content["text"])


def _mask_userinfo(url: str) -> str:
    return re.sub(r"//[^/@?#]*@", f"//{MASK}@", url)


def mask_text(text: str) -> str:
    """Mask parameters and JSON fields that are named like secrets."""
    text = _QUERY.sub(lambda m: f"{m[1]}{m[2]}={MASK}" if _SECRET.search(m[2]) else m[0], text)
    return _JSON.sub(lambda m: f'{m[1]}{m[2]}"{MASK}"' if _SECRET.search(m[1].strip('"')) else m[0], text)
