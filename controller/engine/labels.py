"""The labels by which we know our own; see the contract on containers."""

from __future__ import annotations

from collections.abc import Mapping

INSTANCE = "oton.instance"
APP = "oton.app"
RELEASE = "oton.release"
REPLICA = "oton.replica"
SPEC = "oton.spec"
KIND = "oton.kind"
"""On one-offs only: before or run."""
PORT = "oton.port"
MADE = "oton.made"
"""Limits and networks that the container was made with, as JSON; what differs from it later is drift."""


def is_ours(labels: Mapping[str, str] | None, instance: str) -> bool:
    """Say whether these labels are of our instance; nothing else may be touched."""
    return (labels or {}).get(INSTANCE) == instance


def label_filter(instance: str, app: str = "") -> list[str]:
    """Return the engine's list filter for our containers, or those of one app."""
    return [f"{INSTANCE}={instance}", *([f"{APP}={app}"] if app else [])]
