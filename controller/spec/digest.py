"""
Digests: of a whole spec, and of the part of it that is baked into a container.

Both are made of values, not of text: comments, white space, key order, short or long forms, defaults
written out and the file's times make no difference.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from controller.spec.model import CONTAINER_FIELDS, AppSpec
from controller.spec.plain import plain_part


def digest_spec(spec: AppSpec) -> str:
    """Return the digest of the whole spec: equal for two documents that ask for the same."""
    return _digest(plain_part(spec))


def digest_container(
    spec: AppSpec, image_id: str, secret_versions: Iterable[tuple[str, int]] = (), restarts: int = 0
) -> str:
    """Return the digest of what a container of *spec* is made from; another one replaces it.

    `health.command` counts, since it becomes the container's HEALTHCHECK; the times of `health` do not: for a
    command they hold from the container's next replacement on. *secret_versions* counts for the secrets that
    the spec names. *restarts* is the number of `oton restart`s, so that each makes a new digest.
    """
    plain = plain_part(spec)
    named = {secret.name for secret in spec.secrets}
    part: dict[str, Any] = {field: plain[field] for field in CONTAINER_FIELDS if field in plain}
    part["image_id"] = image_id
    if spec.health.command is not None:
        part["health.command"] = list(spec.health.command)
    versions = sorted([name, version] for name, version in secret_versions if name in named)
    if versions:
        part["secret_versions"] = versions
    if restarts:
        part["restarts"] = restarts
    return _digest(part)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
