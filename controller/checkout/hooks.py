"""Webhooks of the usual forges: does this call come from one that knows our secret?"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from controller.errors import Refused

FILE = "webhook.secret"
"""In the state directory, mode 0600; what stands in it is the secret, and may be replaced at any time."""
SIGNED = ("x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature", "x-gogs-signature")
"""HMAC-SHA256 of the body, in hexadecimal, with or without `sha256=`: GitHub, Gitea, Forgejo, Gogs."""
TOKEN = "x-gitlab-token"  # noqa: S105 - a header's name
"""GitLab sends the secret itself."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """The secret that forges and we know, read anew for each call."""

    file: Path

    def ensure(self) -> None:
        """Make a random secret where there is none yet."""
        with suppress(FileExistsError):
            descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as out:
                out.write(secrets.token_urlsafe(32) + "\n")

    def is_signed(self, headers: Mapping[str, str]) -> bool:
        """Say whether the call shows anything that could be a signature."""
        return any(name in headers for name in (TOKEN, *SIGNED))

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Say whether the call is signed with the secret."""
        key = self._load()
        if TOKEN in headers:
            return hmac.compare_digest(headers[TOKEN].encode(), key)
        given = [headers[name].removeprefix("sha256=") for name in SIGNED if name in headers]
        ours = hmac.new(key, body, hashlib.sha256).hexdigest()
        return bool(given) and all(hmac.compare_digest(one.encode(), ours.encode()) for one in given)

    def _load(self) -> bytes:
        try:
            key = self.file.read_bytes().strip()
        except OSError as error:
            raise Refused(f"{self.file}: cannot be read: {error.strerror}") from error
        if not key:
            # An empty key would let everybody in who signs with nothing.
            raise Refused(f"{self.file}: is empty, expected a secret; write one into it, or remove it and restart")
        return key
