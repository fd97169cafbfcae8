"""
The first and the last addon of every flow: where it goes, what is kept of it, and what is never kept.

Between them stand the people's own addons.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from mitmproxy import http

from controller.proxy.inspector.layers import NOWHERE
from controller.routing.access import UPSTREAM

BUFFER_BYTES = 1024 * 1024
"""Longest body, of a length known before it comes, that addons see whole; others flow through them."""


class First:
    """Sends each flow to the replica that the lane chose."""

    name = "oton-first"

    def __init__(self, has_addons: Callable[[], bool]) -> None:
        self._has_addons = has_addons

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Take the replica's name off the request, and go there; kill what names none, or two."""
        request = flow.request
        named = request.headers.get_all(UPSTREAM.decode())
        request.headers.pop(UPSTREAM.decode(), None)
        place = parse_place(named[0]) if len(named) == 1 else None
        # The setters would write the Host header, which is the client's.
        request.data.host, request.data.port = place or NOWHERE
        request.scheme = "http"
        if place is None:
            flow.kill()  # type: ignore[no-untyped-call]
            return
        flow.client_conn.peername = (request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip(), 0)
        if "upgrade" in request.headers:
            # Without compression a message is as long as its frames, and their length is known before they come.
            request.headers.pop("Sec-WebSocket-Extensions", None)
        request.stream = not self._may_buffer(request)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Let bodies flow, but for short ones that addons may want to see whole."""
        if flow.response is not None:
            flow.response.stream = not self._may_buffer(flow.response)

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        """Keep the newest message only: mitmproxy would keep all of them."""
        if flow.websocket is not None:
            del flow.websocket.messages[:-1]

    def _may_buffer(self, message: http.Message) -> bool:
        length = message.headers.get("Content-Length", "")
        return self._has_addons() and length.isdecimal() and int(length) <= BUFFER_BYTES


class Last:
    """Mends what an addon asked for that mitmproxy's layers cannot do."""

    name = "oton-last"

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """An addon that answers by itself gets the request's body first: mitmproxy cannot let it flow to nobody."""
        if flow.response is not None:
            flow.request.stream = False

    def request(self, flow: http.HTTPFlow) -> None:
        """Trailers end here, whoever made them."""
        flow.request.trailers = None

    def response(self, flow: http.HTTPFlow) -> None:
        """Trailers end here, whoever made them."""
        if flow.response is not None:
            flow.response.trailers = None


def parse_place(text: str) -> tuple[str, int] | None:
    """Return host and port of what the lane named; None where it is not an address and a port."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return (host, int(port)) if port.isdecimal() and 0 < int(port) < 65536 else None
