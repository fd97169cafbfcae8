"""The sentence about a probe that a person is shown in `status`, in a failed apply and on the dashboard; pure."""

from __future__ import annotations

import re
from http import HTTPStatus

from controller.ports import Target
from controller.probe.head import Head, plain_body

BODY_BYTES = 200
"""So much of an error's body is quoted."""

_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_TAGS = re.compile(r"<(?:script|style)\b.*?(?:</(?:script|style)>|$)|<[^>]*>?", re.IGNORECASE | re.DOTALL)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def render_question(target: Target) -> str:
    """Render what is asked: `GET /healthz`."""
    return f"GET {target.health.path if target.method == 'path' else '/'}"


def render_answer(target: Target, head: Head, body: bytes, *, accepted: bool) -> str:
    """Render an HTTP answer: `GET /healthz: 503 Service Unavailable: "warming up"`."""
    text = f"{render_question(target)}: {head.status} {head.reason or _reason(head.status)}".rstrip()
    if accepted:
        return text
    if 300 <= head.status < 400:
        return f"{text} to {clean(head.location) or 'nowhere'} ({_allowed(target)}; redirects are not followed)"
    quote = quote_body(plain_body(body, head.chunked))
    hint = "" if head.status >= 500 else f" ({_allowed(target)})"
    return f'{text}{hint}: "{quote}"' if quote else f"{text}{hint}"


def render_refused(target: Target) -> str:
    """Render that nobody listens."""
    return f"{render_question(target)}: connection refused at {place(target)}; {_listen(target)}"


def render_timeout(target: Target, *, connected: bool) -> str:
    """Render that the time was up."""
    limit = f"{target.health.timeout:g} s"
    if not connected:
        return f"{render_question(target)}: {place(target)} could not be connected to within {limit}"
    return f"{render_question(target)}: no answer within {limit} (it accepted the connection)"


def render_closed(target: Target, got: bytes, *, reset: bool) -> str:
    """Render that the connection ended before an answer."""
    how = "reset" if reset else "closed"
    if got:
        return f'{render_question(target)}: connection {how} in the middle of the answer ("{quote_body(got)}")'
    hint = f"; {_listen(target)}" if is_loopback(target) else ""
    return f"{render_question(target)}: connection {how} without an answer{hint}"


def render_not_http(target: Target, got: bytes) -> str:
    """Render that something else than HTTP is spoken there."""
    if got[:1] in (b"\x15", b"\x16"):
        return f"{render_question(target)}: port {target.port} answers with TLS; the app must speak plain HTTP there"
    return f'{render_question(target)}: port {target.port} does not answer with HTTP but with "{quote_body(got)}"'


def render_lost(target: Target) -> str:
    """Render that there is nowhere to ask."""
    return f"{render_question(target)}: the container has no address on the replicas' network"


def render_trouble(target: Target, why: str) -> str:
    """Render that the network would not let us ask."""
    return f"{render_question(target)}: cannot reach {place(target)}: {why}"


def render_engine(target: Target) -> str:
    """Render the engine's own health check."""
    log = f": {clean(target.engine_log)}" if target.engine_log else ""
    match target.verdict:
        case "healthy":
            return "health check: passed"
        case "unhealthy":
            return f"health check: failed{log}"
        case "starting":
            return f"health check: not passed yet{log}"
        case _:
            return "health check: the engine runs none on this container"


def place(target: Target) -> str:
    """Return where it is asked: `10.1.2.3:8000`."""
    return f"[{target.address}]:{target.port}" if ":" in (target.address or "") else f"{target.address}:{target.port}"


def is_loopback(target: Target) -> bool:
    """Say whether it is reached by a published port, whose proxy accepts even while the app does not listen."""
    return (target.address or "").startswith("127.")


def quote_body(data: bytes) -> str:
    """Return the first words of a body, as one line: a page's title, or its text without tags."""
    text = data[: 20 * BODY_BYTES].decode("utf-8", "replace")
    if text.lstrip().startswith("<"):
        title = _TITLE.search(text)
        text = title[1] if title else _TAGS.sub(" ", text)
    line = clean(text)
    return line if len(line) <= BODY_BYTES else line[: BODY_BYTES - 1] + "…"


def clean(text: str) -> str:
    """Return *text* as one line that is safe on a terminal."""
    return " ".join(_CONTROLS.sub(" ", text).split())


def _listen(target: Target) -> str:
    inside = "its port" if is_loopback(target) else f"port {target.port}"
    return f"is it listening yet, on {inside} and on all addresses (0.0.0.0, not 127.0.0.1)?"


def _allowed(target: Target) -> str:
    if target.method == "root":
        return "allowed: below 500"
    ranges = (str(low) if low == high else f"{low}-{high}" for low, high in target.health.status)
    return f"allowed: {', '.join(ranges)}"


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
