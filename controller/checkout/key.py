"""Whether the file that OTON_GIT_KEY names is what ssh can use, said before ssh says it in its own words."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

from controller.errors import Refused

_OPENSSH = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END", re.DOTALL)
_MAGIC = b"openssh-key-v1\x00\x00\x00\x00"


def check_key(place: Path) -> None:
    """Raise Refused, in one line, unless *place* holds a private key without a password that only we can read."""
    try:
        text = place.read_bytes().decode("ascii", "replace")
        mode = place.stat().st_mode
    except OSError as error:
        raise _wrong(place, f"cannot be read: {error.strerror}") from None
    if "PRIVATE KEY-----" not in text:
        public = text.startswith(("ssh-", "ecdsa-", "sk-")) or "PUBLIC KEY" in text
        raise _wrong(place, "is a public key; its private one is wanted" if public else "holds no private key")
    if is_locked(text):
        raise _wrong(place, f"is protected by a password, which nobody could type; remove it: ssh-keygen -p -f {place}")
    if mode & 0o077:
        raise _wrong(place, f"can be read by others, and ssh refuses such a key; fix it: chmod 600 {place}")


def is_locked(text: str) -> bool:
    """Say whether a private key is encrypted."""
    if "ENCRYPTED" in text:
        return True
    found = _OPENSSH.search(text)
    try:
        inner = base64.b64decode("".join(found[1].split())) if found is not None else b""
    except binascii.Error:
        return False
    return inner.startswith(_MAGIC[:15]) and not inner[len(_MAGIC) :].startswith(b"\x04none")


def _wrong(place: Path, why: str) -> Refused:
    return Refused(f'OTON_GIT_KEY: found "{place}", which {why}')
