"""Where the watched directory's files come from, as far as it matters for reading and changing them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def nobody(file: str) -> tuple[str, str]:
    """Say that nobody is known to want what stands in *file*."""
    return ("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The source of the directory; by default people put files there, and all of them are ours to change."""

    only: tuple[str, ...] = ()
    """The folders of the directory that count; empty: all of it."""
    uploads: str = ""
    """The folder that new uploads go to; empty: the directory itself."""
    locked: Callable[[str], str] = lambda file: ""
    """File -> the source that alone may change it; "": it is ours."""
    source: Callable[[str], tuple[str, str]] = nobody
    """File -> who wants what stands in it, and why; ("", ""): it just lies there."""
    troubles: Callable[[], tuple[str, ...]] = tuple
    """What is wrong with the source, for people."""
