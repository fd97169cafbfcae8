"""Answers of our own: a small page for browsers, problem+json for others, and never a word of the machinery."""

from __future__ import annotations

import json
from email.utils import formatdate
from html import escape
from http import HTTPStatus
from time import time

NO_CONTENT = HTTPStatus.NO_CONTENT

_SENTENCES = {
    400: "The request could not be understood.",
    401: "Please sign in.",
    403: "You may not see this.",
    404: "There is nothing here.",
    405: "This method is not allowed here.",
    408: "The request took too long to arrive.",
    413: "The request is too large.",
    414: "The address is too long.",
    417: "What the request expects cannot be met.",
    421: "This connection does not serve that host.",
    429: "Too many requests. Please try again in a moment.",
    431: "The request's headers are too large.",
    502: "The service could not answer. Please try again.",
    503: "The service is not available right now. Please try again in a moment.",
    504: "The service took too long to answer.",
}


def render_answer(
    status: int,
    request_id: str,
    *,
    html: bool = False,
    head_only: bool = False,
    close: bool = False,
    keep_alive: bool = False,
    message: str = "",
    headers: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """
    Return a whole answer, head and body, ready to be written.

    *message* replaces the usual sentence; *headers* are added as they are, so they must be clean. *keep_alive*: the
    client is told so unless the connection closes, as HTTP/1.0 wants it.
    """
    reason = HTTPStatus(status).phrase
    sentence = message or _SENTENCES.get(status, reason)
    kind, body = _page(status, reason, sentence, request_id) if html else _problem(status, reason, sentence, request_id)
    lines = [
        f"HTTP/1.1 {status} {reason}",
        render_date().decode(),
        *([] if status == NO_CONTENT else [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]),
        "Cache-Control: no-store",
        f"X-Request-ID: {request_id}",
    ]
    lines.extend(f"{name}: {value}" for name, value in headers)
    if close:
        lines.append("Connection: close")
    elif keep_alive:
        lines.append("Connection: keep-alive")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
    return head if head_only or status == NO_CONTENT else head + body


def render_date() -> bytes:
    """Return the header line with the time of day."""
    now = int(time())
    line = _dates.get(now)
    if line is None:
        _dates.clear()
        line = _dates[now] = b"Date: " + formatdate(now, usegmt=True).encode()
    return line


_dates: dict[int, bytes] = {}
"""The present second's, since every answer has one."""


def _problem(status: int, reason: str, sentence: str, request_id: str) -> tuple[str, bytes]:
    value = {"type": "about:blank", "title": reason, "status": status, "detail": sentence, "request_id": request_id}
    return "application/problem+json", json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _page(status: int, reason: str, sentence: str, request_id: str) -> tuple[str, bytes]:
    text = _PAGE.format(status=status, reason=escape(reason), sentence=escape(sentence), request_id=escape(request_id))
    return "text/html; charset=utf-8", text.encode()


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{status} {reason}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:34em;margin:18vh auto;padding:0 1em;color:#222}}
h1{{font-size:1.4em}}small{{color:#777}}@media(prefers-color-scheme:dark){{body{{background:#181818;color:#ddd}}}}</style>
</head><body><h1>{reason}</h1><p>{sentence}</p><p><small>{status} &middot; {request_id}</small></p></body></html>
"""
