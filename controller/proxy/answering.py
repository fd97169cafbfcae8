"""The way of an answer back to the client: heads, bodies, event streams, WebSockets, and old assets."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1
from time import monotonic

from controller.proxy.answers import render_date
from controller.proxy.chunks import render_chunk
from controller.proxy.passage import Passage
from controller.proxy.replies import Answer
from controller.proxy.stream import EventStream
from controller.proxy.tunnel import Tunnel
from controller.proxy.wheel import NEVER

_BODYLESS = frozenset((204, 304))
_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""By which a server shows that it speaks WebSocket (RFC 6455, 1.3)."""


class Answering(Passage):
    """A request whose answer comes."""

    def interim(self, answer: Answer) -> None:
        """Pass a 1xx on; 100 is ours to give, and HTTP/1.0 knows none."""
        if answer.status != 100 and self.fields.version == 1:
            lines = b"".join(line + b"\r\n" for line in answer.lines)
            self.client.write(b"HTTP/1.1 " + answer.words + b"\r\n" + lines + b"\r\n")

    def answered(self, answer: Answer, body: bytes, last: bool) -> None:
        """Send the head of the answer to the client, with as much of the body as is there."""
        status = answer.status
        if self.detour is not None and status == 502 and self._meet_trouble(answer):
            return
        if status == 101:
            self._open_tunnel(answer)
            return
        if status == 404 and self.app.door.access.assets and self._ask_old(last):
            return
        self.status = status
        head = self._render_answer(answer)
        payload = body
        if self._chunk_out:
            body = render_chunk(body, last)
        self.bytes_out += len(body)
        self.client.write(head + body)
        if last:
            self._finish()
            return
        if answer.events:
            self.stream = EventStream(payload)
            if self._leave is not None:
                self.leave(*self._leave)
        self.arm(monotonic() + self._idle_s())

    def _meet_trouble(self, answer: Answer) -> bool:
        """Take an inspector's word that there is no answer of a replica; False where this is one."""
        raise NotImplementedError

    def _render_answer(self, answer: Answer) -> bytes:
        client, access = self.client, self.app.door.access
        if not answer.dated:
            answer.lines.append(render_date())
        lines = answer.lines if access.response_edit is None else access.response_edit.apply_to(answer.lines)
        parts = [b"HTTP/1.1 " + answer.words, *lines]
        if access.hsts and self.is_secure():
            parts.append(access.hsts)
        if self._sticky:
            parts.append(self._sticky)
        status = answer.status
        if answer.length is not None:
            if status == 204:
                parts = [line for line in parts if not line.lower().startswith(b"content-length:")]
        elif not self.head_only and status not in _BODYLESS:
            if self.fields.version == 1:
                self._chunk_out = True
                parts.append(b"Transfer-Encoding: chunked")
            else:
                client.closing = True
        if not self.body_done or self.core.retiring:
            client.closing = True
        if client.closing:
            parts.append(b"Connection: close\r\n\r\n")
        elif self.fields.version == 0:
            parts.append(b"Connection: keep-alive\r\n\r\n")
        else:
            parts.append(b"\r\n")
        return b"\r\n".join(parts)

    def flows(self, data: bytes, last: bool) -> None:
        """Pass more of the body on."""
        ended = False
        if self.stream is not None and not last:
            end = self.stream.follow(data)
            if end is not None:
                data, last, ended = data[:end], True, True
        if self._chunk_out:
            data = render_chunk(data, last)
        if data:
            self.bytes_out += len(data)
            self.client.write(data)
        if ended:
            self._end_events()
        elif last:
            self._finish()
        else:
            self.arm(min(self._end_due, monotonic() + self._idle_s()))

    def _idle_s(self) -> float:
        wished = self.app.routes.policy.idle_s
        if wished is not None:
            return wished
        limits = self.core.limits
        return limits.idle_s if self.stream is None else limits.stream_idle_s

    def _finish(self) -> None:
        """The answer is complete."""
        now = monotonic()
        link, pool = self.link, self.pool
        self.link = None
        if link is not None and pool is not None:
            link.resume()
            if self.body_done:
                link.home.release(link, now)
            else:
                link.close()
        self._close_books(now)
        self.client.finished(now)

    def _end_if_at_border(self) -> None:
        if self.stream is None or not self.stream.is_at_border():
            self.arm(NEVER)
            return
        if self._chunk_out:
            self.client.write(b"0\r\n\r\n")
        self._end_events()

    def _end_events(self) -> None:
        """The stream was ended properly; the client comes back by itself."""
        self.client.closing = True
        self.why = "drained"
        self._leave_pool()
        self._finish()

    # WebSockets and old assets.

    def agrees(self, answer: Answer) -> bool:
        """Say whether a 101 answers the very key that this request sent, so that no cache or mistake speaks here."""
        key = next((value for low, _, value in self.fields.pairs if low == b"sec-websocket-key"), b"")
        wanted = b64encode(sha1(key + _WEBSOCKET, usedforsecurity=False).digest())
        pairs = [line.split(b":", 1) for line in answer.lines]
        return [value.strip() for name, value in pairs if name.lower() == b"sec-websocket-accept"] == [wanted]

    def _open_tunnel(self, answer: Answer) -> None:
        link = self.link
        if link is None:
            return
        self.status = 101
        lines = [b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket", *answer.lines]
        if self._sticky:
            lines.append(self._sticky)
        self.client.write(b"\r\n".join(lines) + b"\r\n\r\n")
        idle_s = self.app.routes.policy.idle_s or self.core.limits.stream_idle_s
        self.tunnel = Tunnel(self, self.client, link, idle_s, self.core)
        link.tunnel(self.tunnel.upward)
        self.tunnel.begin()
        if self._leave is not None:
            self.tunnel.leave(*self._leave)
        self.client.become_tunnel(self.tunnel)

    def tunnel_ended(self, why: str, bytes_in: int, bytes_out: int) -> None:
        """Both sides of the tunnel are closed, or closing."""
        self.why = why
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self.link = None  # the tunnel closes it in its own way
        self._close_books(monotonic())

    def _ask_old(self, last: bool) -> bool:
        """Ask the old release for an asset that the new one does not have."""
        if self._asked_old or self.method not in (b"GET", b"HEAD") or not self.body_done:
            return False
        pool = self.app.pick_assets()
        if pool is None or not self.app.door.is_asset(self.path()):
            return False
        self._asked_old = True
        link, current = self.link, self.pool
        if last and link is not None and current is not None:
            self.link = None
            link.home.release(link, monotonic())
        self._leave_pool()
        self.sent = False
        self._go(pool, monotonic())
        return True
