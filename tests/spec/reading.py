"""Reading one document in a line."""

from __future__ import annotations

import re

from controller.spec.model import AppSpec
from controller.spec.parse import Document, parse_file

EVERYTHING: frozenset[str] = frozenset()
"""Nothing is unavailable: the fields that wait for later work can be looked at too."""


def document_of(text: str, **more: object) -> Document:
    """Read a document that has `name: shop` and `image: shop:1` unless *text* says so itself."""
    given = set(re.findall(r"^(\w+):", text, re.MULTILINE))
    head = "".join(f"{key}: {value}\n" for key, value in (("name", "shop"), ("image", "shop:1")) if key not in given)
    parsed = parse_file((text.rstrip("\n") + "\n" + head).encode(), "shop.yaml", not_yet=EVERYTHING, **more)
    (document,) = parsed.documents
    return document


def spec_of(text: str, **more: object) -> AppSpec:
    """Read a document that has to be good."""
    document = document_of(text, **more)
    assert document.spec is not None, [problem.text for problem in document.problems]
    return document.spec


def problems_of(text: str, **more: object) -> list[str]:
    """Return the problems of a document, without the file's name."""
    return [problem.text.removeprefix("shop.yaml:") for problem in document_of(text, **more).problems]


def warnings_of(text: str) -> list[str]:
    """Return the warnings of a good document, without the file's name."""
    document = document_of(text)
    assert document.spec is not None, [problem.text for problem in document.problems]
    return [warning.text.removeprefix("shop.yaml:") for warning in document.warnings]
