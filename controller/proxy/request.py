"""One request: what the client sent, its body on its way, and the head under which it goes to a replica."""

from __future__ import annotations

from typing import Protocol

from controller.proxy.chunks import ChunkReader, Piece, render_chunk
from controller.proxy.framing import Fields
from controller.routing.access import Edit
from controller.routing.table import Rule

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"PROPFIND", b"REPORT", b"SEARCH"))


class Sender(Protocol):
    """What a request needs to know of the connection that it came on."""

    address: str
    """The peer's address."""
    forwarded: bytes
    """X-Forwarded-For, -Proto and -Port for a peer that is not trusted, as lines."""
    trusted: bool
    """The peer is one of the proxies whose X-Forwarded-* is believed."""
    tls: bool


class Request:
    """One request; the parts that change are the body's."""

    bytes_in = 0
    body_done = True
    """The whole request has arrived."""
    kept: list[bytes] | None = None
    """Body pieces, framed for the replica, from the first on; None: there are none, or too many to keep."""
    kept_bytes = 0
    _left = 0
    _chunks: ChunkReader | None = None

    def __init__(self, sender: Sender, method: bytes, target: bytes, fields: Fields, name: bytes) -> None:
        self.sender = sender
        self.method = method
        self.target = target
        self.fields = fields
        self.id = fields.request_id or name
        self.head_only = method == b"HEAD"

    def expect_body(self) -> None:
        """Get ready to read the body that the head announces."""
        self.body_done = False
        self.kept = []
        if self.fields.chunked:
            self._chunks = ChunkReader()
        else:
            self._left = self.fields.length or 0

    def read_body(self, data: bytes, piece: Piece) -> tuple[bytes, bytes]:
        """
        Take body bytes; return what to send on, and what belongs to the next message or has to wait.

        Raises BadMessage where a chunked body is not one.
        """
        chunks = self._chunks
        if chunks is not None:
            payload = chunks.feed(data, piece)
            self.bytes_in += len(payload)
            self.body_done = chunks.done
            return render_chunk(payload, chunks.done), chunks.rest
        rest = b""
        left = self._left - len(data)
        if left <= 0:
            if left < 0:
                data, rest = data[: self._left], data[self._left :]
            left = 0
            self.body_done = True
        self._left = left
        self.bytes_in += len(data)
        return data, rest

    def keep(self, data: bytes) -> None:
        """Keep a piece in case the request has to be sent (again)."""
        if self.kept is not None:
            self.kept.append(data)
            self.kept_bytes += len(data)

    def has_all_of_it(self) -> bool:
        """Say whether all of the body that arrived so far could be sent once more."""
        return self.kept is not None or not self.fields.has_body

    def path(self) -> bytes:
        """Return the target without its query."""
        return self.target.partition(b"?")[0]

    def is_secure(self) -> bool:
        """Say whether the client speaks TLS, to us or to a trusted proxy."""
        if self.sender.trusted:
            for line in self.fields.forwarded:
                name, _, value = line.partition(b":")
                if name.lower() == b"x-forwarded-proto":
                    return value.strip().lower() in (b"https", b"wss")
        return self.sender.tls

    def render_head(self, rule: Rule, edit: Edit | None, upgrade: bool) -> bytes:
        """Return the head that a replica gets."""
        fields, sender = self.fields, self.sender
        target = self.target
        prefix = b""
        if rule.strip and rule.path != "/":
            stripped = rule.path.rstrip("/").encode()
            target = target[len(stripped) :]
            if target[:1] != b"/":
                target = b"/" + target
            prefix = b"X-Forwarded-Prefix: " + stripped + b"\r\n"
        block = fields.block if edit is None else edit.apply(fields.block)
        if fields.has_body or upgrade or fields.length is not None:
            block += self._framing(upgrade)
        host = fields.host
        told = self._trusted_lines() if sender.trusted else b"%bX-Forwarded-Host: %b\r\n" % (sender.forwarded, host)
        return b"".join(
            (
                self.method, b" ", target, b" HTTP/1.1\r\nHost: ", host, b"\r\n", block,
                told, prefix, b"X-Request-ID: ", self.id, b"\r\n\r\n",
            )
        )  # fmt: skip

    def _framing(self, upgrade: bool) -> bytes:
        if upgrade:
            return b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        if self.fields.chunked:
            return b"Transfer-Encoding: chunked\r\n"
        return b"Content-Length: %d\r\n" % (self.fields.length or 0)

    def _trusted_lines(self) -> bytes:
        """Return what a trusted proxy told, with its own address added and gaps filled."""
        told = {line.partition(b":")[0].lower(): line for line in self.fields.forwarded}
        chain = self.fields.forwarded_for
        own = self.sender.address.encode()
        told[b"x-forwarded-for"] = b"X-Forwarded-For: " + (chain + b", " + own if chain else own)
        for line in (*self.sender.forwarded.split(b"\r\n")[:-1], b"X-Forwarded-Host: " + self.fields.host):
            told.setdefault(line.partition(b":")[0].lower(), line)
        return b"\r\n".join(told.values()) + b"\r\n"
