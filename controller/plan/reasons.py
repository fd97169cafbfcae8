"""Why a release is made, in the words of the spec: the first differences that a person would name."""

from __future__ import annotations

from collections.abc import Collection

from controller.spec.diff import diff_specs
from controller.spec.model import AppSpec
from controller.spec.sensitive import is_sensitive

SHOWN = 3
LONGEST = 90


def explain(old: AppSpec | None, new: AppSpec) -> str:
    """Return the differences in words: `image: shop:1.4 -> shop:1.5; replicas: 2 -> 3`."""
    if old is None:
        return "first release"
    changes = diff_specs(old, new)
    if not changes:
        return "the spec is back"
    # A reason is kept in the history and in the events, which whoever may look can read.
    words = [f"{c.field}: changed" if is_sensitive(c.field) else _cut(c.text) for c in changes[:SHOWN]]
    more = f"; {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    return "; ".join(words) + more


def say_missing(app: str, names: Collection[str]) -> str:
    """Say that secrets have no value, and how to give them one."""
    first = next(iter(names))
    if len(names) == 1:
        return f"secret {first} is not set; set it with: oton secret set {app} {first}"
    return f"secrets {', '.join(names)} are not set; set the first with: oton secret set {app} {first}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
