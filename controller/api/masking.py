"""Known secrets never leave in what is shown: they read `***`."""

from __future__ import annotations

from typing import Any

from controller.api.parts import Parts


def mask(parts: Parts, app: str, value: Any) -> Any:
    """Return *value* with every known secret of the app as `***`, however deep it stands."""
    if isinstance(value, str):
        return parts.ledger.secrets.mask(app, value)
    if isinstance(value, dict):
        return {key: mask(parts, app, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [mask(parts, app, inner) for inner in value]
    return value
