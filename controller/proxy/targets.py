"""What a request is for, where its line says more than a path: the host of an absolute target, or how far it may go."""

from __future__ import annotations

import re
from dataclasses import replace

from controller.proxy.framing import BadMessage, Fields, read_host

_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)(/[^#]*|\?[^#]*)?", re.IGNORECASE)
_HOPS = re.compile(rb"[0-9]{1,9}")
_COUNTED = frozenset((b"OPTIONS", b"TRACE"))


def resolve(method: bytes, target: bytes, fields: Fields) -> tuple[bytes, Fields]:
    """Return the target that a replica gets, and the fields as they hold for this request; raises BadMessage."""
    if target == b"*":
        if method != b"OPTIONS":
            raise BadMessage("target")
    elif target[:1] != b"/":
        target, fields = _split_absolute(method, target, fields)
    if fields.hops is not None and method in _COUNTED:
        fields = _count_down(fields.hops, fields)
    return target, fields


def _split_absolute(method: bytes, target: bytes, fields: Fields) -> tuple[bytes, Fields]:
    """Return an absolute target in origin form; its host is the request's, and a Host header must not disagree."""
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise BadMessage("target")
    host, rest = found[1], found[2]
    if not fields.host:
        fields = replace(fields, host=host, name=read_host(host))
    elif host.lower() != fields.host.lower():
        raise BadMessage("target and Host disagree")
    if not rest:
        return b"*" if method == b"OPTIONS" else b"/", fields
    return rest if rest[:1] == b"/" else b"/" + rest, fields


def _count_down(hops: bytes, fields: Fields) -> Fields:
    """Return the fields with one hop less, or marked as answered here where there is none left."""
    if _HOPS.fullmatch(hops) is None:
        raise BadMessage("Max-Forwards")
    left = int(hops)
    if not left:
        return replace(fields, ends_here=True)
    lines = fields.block.splitlines(keepends=True)
    counted = [b"Max-Forwards: %d\r\n" % (left - 1) if _is_counter(line) else line for line in lines]
    return replace(fields, block=b"".join(counted))


def _is_counter(line: bytes) -> bool:
    return line[:13].lower() == b"max-forwards:"
