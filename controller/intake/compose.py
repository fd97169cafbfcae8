"""
Putting one document into a file of several, or taking it out, line by line.

Knows nothing of the disk; bytes in, bytes out.
"""

from __future__ import annotations

import re

from controller.errors import Refused
from controller.spec.parse import LARGEST_BYTES, Document, parse_file

_LINES = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+\Z")
_BORDER = re.compile(rb"(---|%)")
_MARK = b"\xef\xbb\xbf"


def replace_document(data: bytes, document: Document, new: bytes, file: str) -> bytes:
    """Return *data* with the lines of *document* replaced by *new*; every other line stays as it is."""
    lines = _LINES.findall(data)
    before, old, after = _cut(lines, document)
    body = new.removeprefix(_MARK)
    body += b"" if body.endswith((b"\n", b"\r")) else b"\n"
    if before and not any(_BORDER.match(line) for line in _LINES.findall(body)):
        body = b"---\n" + body
    if old and old[-1].rstrip() == b"..." and after:
        body += b"...\n"
    whole = b"".join(_ended(before)) + body + b"".join(after)
    return _verified(data, whole, document, file, stays=True)


def remove_document(data: bytes, document: Document, file: str) -> bytes:
    """Return *data* without the lines of *document*; every other line stays as it is."""
    before, _, after = _cut(_LINES.findall(data), document)
    return _verified(data, b"".join(before + after), document, file, stays=False)


def _cut(lines: list[bytes], document: Document) -> tuple[list[bytes], list[bytes], list[bytes]]:
    first, last = document.first_line - 1, document.last_line
    return lines[:first], lines[first:last], lines[last:]


def _ended(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-1], lines[-1] if lines[-1].endswith((b"\n", b"\r")) else lines[-1] + b"\n"] if lines else []


def _verified(data: bytes, whole: bytes, document: Document, file: str, *, stays: bool) -> bytes:
    """Return *whole* if no document of *data* but the one meant has become another."""
    if len(whole) > LARGEST_BYTES:
        raise Refused(f"{file}: would grow to {len(whole)} bytes, allowed: at most {LARGEST_BYTES} (1M)")
    name = document.name
    old, new = parse_file(data, file), parse_file(whole, file)
    others = [other.digest for other in old.documents if other.name != name]
    kept = [other.digest for other in new.documents if other.name != name]
    if kept != others or any(other.name == name for other in new.documents) != stays:
        raise Refused(f"{file}: {name} cannot be told apart from the other documents; change the file by hand")
    return whole
