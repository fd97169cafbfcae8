"""Small notes in the state directory, each one line; losing one costs a little luck, so none is synced."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def read_note(place: Path | None) -> str:
    """Return what was noted there; "" for nothing, or nothing that can be read."""
    with suppress(OSError, UnicodeDecodeError):
        return place.read_text().strip() if place else ""
    return ""


def write_note(place: Path | None, text: str) -> None:
    """Note *text* in place of what was noted; one that cannot be written is left."""
    if place is None:
        return
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        spare = place.with_name(f".{place.name}.tmp")
        spare.write_text(text)
        spare.replace(place)
