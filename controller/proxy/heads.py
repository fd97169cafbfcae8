"""
Reads the heads of requests for all connections of a worker, and remembers what it read.

Clients say the same again and again: a browser sends the same header block with each request, and pages are asked
for by many. What was read and checked once is looked up by its bytes; new bytes are read by `framing`.
"""

from __future__ import annotations

from controller.proxy.framing import (
    Fields,
    parse_fields,
    parse_line,
    refuse_bare_ends,
    refuse_long,
)
from controller.proxy.limits import Limits
from controller.proxy.targets import resolve

_BLOCK_BYTES, _BLOCKS = 2048, 1024
_LINE_BYTES, _LINES = 256, 4096
"""Bounds of what is remembered: the longest, and how many."""

Head = tuple[bytes, bytes, str, Fields, int]
"""Method, target in origin form, host as it is compared, header fields, and where the head ends."""


class HeadReader:
    """Reads request heads."""

    __slots__ = ("_blocks", "_limits", "_lines")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines: dict[bytes, tuple[bytes, bytes, int]] = {}
        self._blocks: tuple[dict[bytes, Fields], dict[bytes, Fields]] = ({}, {})
        """By HTTP/1 minor version: the same block may mean something else under the other."""

    def read(self, data: bytes) -> Head | None:
        """Read the head at the start of *data*; None while it is not complete; raises BadMessage."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or end > self._limits.header_bytes:
            if len(data) > self._limits.header_bytes:
                raise refuse_long(data, self._limits.header_bytes)
            refuse_bare_ends(data)
            return None
        split = data.find(b"\r\n")
        line, block = data[:split], data[split + 2 : end]
        try:
            method, target, version = self._lines[line]
        except KeyError:
            method, target, version = self._read_line(line)
        fields = self._blocks[version].get(block)
        if fields is None:
            fields = self._read_block(line, block, version)
        if target[:1] != b"/" or fields.hops is not None:
            target, fields = resolve(method, target, fields)
        return method, target, fields.name, fields, end

    def _read_line(self, line: bytes) -> tuple[bytes, bytes, int]:
        read = parse_line(line)
        if len(line) <= _LINE_BYTES:
            if len(self._lines) >= _LINES:
                self._lines.clear()
            self._lines[line] = read
        return read

    def _read_block(self, line: bytes, block: bytes, version: int) -> Fields:
        fields = parse_fields(line, block, self._limits.header_count)
        known = self._blocks[version]
        if len(block) <= _BLOCK_BYTES:
            if len(known) >= _BLOCKS:
                known.clear()
            known[block] = fields
        return fields
