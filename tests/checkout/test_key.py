"""A file that is no key for ssh is refused at the start, in one line that says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from controller.checkout.key import check_key
from controller.errors import Refused

KEY = ed25519.Ed25519PrivateKey.generate()
PEM, FORM = serialization.Encoding.PEM, serialization.PrivateFormat
PLAIN, LOCKED = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"secret")
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


def a_file(tmp_path: Path, data: bytes, mode: int = 0o600) -> Path:
    place = tmp_path / "key"
    place.write_bytes(data)
    place.chmod(mode)
    return place


@pytest.mark.parametrize("form", [FORM.OpenSSH, FORM.PKCS8])
def test_a_key_without_a_password_is_taken(tmp_path: Path, form: serialization.PrivateFormat) -> None:
    check_key(a_file(tmp_path, KEY.private_bytes(PEM, form, PLAIN)))


@pytest.mark.parametrize(
    ("data", "mode", "said"),
    [
        (PUBLIC, 0o600, "is a public key; its private one is wanted"),
        (b"", 0o600, "holds no private key"),
        (b"\xff\xfe\x00", 0o600, "holds no private key"),
        (b"-----BEGIN CERTIFICATE-----\n", 0o600, "holds no private key"),
        (KEY.private_bytes(PEM, FORM.OpenSSH, LOCKED), 0o600, "is protected by a password"),
        (KEY.private_bytes(PEM, FORM.PKCS8, LOCKED), 0o600, "is protected by a password"),
        (KEY.private_bytes(PEM, FORM.OpenSSH, PLAIN), 0o644, "can be read by others"),
    ],
    ids=["public", "empty", "binary", "certificate", "locked-openssh", "locked-pkcs8", "open"],
)
def test_what_ssh_could_not_use_is_refused(tmp_path: Path, data: bytes, mode: int, said: str) -> None:
    with pytest.raises(Refused, match=said) as caught:
        check_key(a_file(tmp_path, data, mode))
    assert str(caught.value).startswith(f'OTON_GIT_KEY: found "{tmp_path / "key"}", which ')
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot be read: No such file or directory"):
        check_key(tmp_path / "key")
    with pytest.raises(Refused, match="cannot be read: Is a directory"):
        check_key(tmp_path)
