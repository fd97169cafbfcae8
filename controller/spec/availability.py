"""What the spec can say and this version cannot do yet."""

from __future__ import annotations

from collections.abc import Iterator

from controller.spec.faults import Place
from controller.spec.model import AppSpec

NOT_YET: frozenset[str] = frozenset()
"""Dotted fields that are answered with "not available yet" where a file asks for them."""


def find_unavailable(spec: AppSpec, not_yet: frozenset[str] = NOT_YET) -> Iterator[Place]:
    """Yield the places where *spec* asks for something in *not_yet*; a value written out as its default does not."""
    for name in sorted(not_yet):
        head, _, tail = name.partition(".")
        if head == "strategy":
            if spec.strategy.type == tail:
                yield ("strategy",)
        elif tail:
            part = getattr(spec, head)
            if getattr(part, tail) != type(part).model_fields[tail].get_default(call_default_factory=True):
                yield (head, tail)
        elif getattr(spec, head) != type(spec).model_fields[head].get_default(call_default_factory=True):
            yield (head,)
