"""The file that holds the keys of the secrets: one line a key, `id base64`, the one in use first."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from controller.errors import Refused, Retry

_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Key:
    """One key of AES-256-GCM."""

    id: str
    raw: bytes

    def seal(self, text: str, label: str) -> bytes:
        """Return *text* encrypted; it opens under the same *label* only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self.raw).encrypt(nonce, text.encode(), label.encode())

    def open(self, sealed: bytes, label: str) -> str:
        """Return what `seal` encrypted; Refused if it was changed or moved."""
        try:
            return AESGCM(self.raw).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], label.encode()).decode()
        except InvalidTag as error:
            raise Refused("a stored secret cannot be decrypted with its key; set it again") from error


def make_key() -> Key:
    """Return a new random key."""
    return Key(secrets.token_hex(4), AESGCM.generate_key(256))


def load_keys(file: Path) -> tuple[Key, ...]:
    """Return the keys in *file*, the one in use first; none if there is no file."""
    try:
        lines = file.read_text("ascii").split("\n")
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise Refused(f"{file}: the key file cannot be read: {error}") from error
    return tuple(_parse(line, file, number) for number, line in enumerate(lines, 1) if line.strip())


def save_keys(file: Path, keys: tuple[Key, ...]) -> None:
    """Replace *file* (mode 0600) whole; it is on the disk when this returns."""
    temporary = file.with_name(f".{file.name}.tmp")
    text = "".join(f"{key.id} {base64.b64encode(key.raw).decode()}\n" for key in keys)
    try:
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as out:
            out.write(text)
            out.flush()
            os.fsync(handle)
        temporary.replace(file)
        _fsync_folder(file.parent)
    except OSError as error:
        raise Retry(f"{file}: the key file cannot be written: {error.strerror}") from error


def _parse(line: str, file: Path, number: int) -> Key:
    name, _, encoded = line.strip().partition(" ")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        raise Refused(f"{file}:{number}: found no key of 32 bytes, allowed: lines of `id base64`")
    return Key(name, raw)


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
