"""TLS as somebody sees it who looks for weaknesses: sslscan at a running service."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import trustme

from tests.parts.service import Service
from tests.parts.wait import free_port

SSLSCAN = shutil.which("sslscan")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(SSLSCAN is None, reason="sslscan is not installed"),
]

HOST = "secure.test"
FORWARD_SECRET = ("TLS_", "ECDHE-")
AUTHENTICATED = ("_GCM_", "-GCM-", "CHACHA20")


def scan(port: int) -> ET.Element:
    words = (str(SSLSCAN), "--xml=-", f"--sni-name={HOST}", f"127.0.0.1:{port}")
    done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=True)
    [found] = ET.fromstring(done.stdout).iter("ssltest")
    return found


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
def test_an_auditor_finds_nothing_old_and_nothing_weak(
    services: Callable[..., Service], tmp_path: Path, kind: str
) -> None:
    port = free_port()
    service = services(settings={"TLS_PORT": str(port)})
    issued = trustme.CA().issue_cert(HOST, key_type=trustme.KeyType[kind])
    cert, key = tmp_path / "one.crt", tmp_path / "one.key"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    added = service.oton("cert", "add", HOST, "--cert", str(cert), "--key", str(key))
    assert added.returncode == 0, added.stderr

    found = scan(port)
    spoken = {f"{one.get('type')} {one.get('version')}" for one in found.iter("protocol") if one.get("enabled") == "1"}
    assert spoken == {"tls 1.2", "tls 1.3"}
    ciphers = list(found.iter("cipher"))
    assert {one.get("sslversion") for one in ciphers} == {"TLSv1.2", "TLSv1.3"}
    for one in ciphers:
        name = one.get("cipher", "")
        assert one.get("strength") in ("strong", "acceptable"), name
        assert name.startswith(FORWARD_SECRET), name
        assert any(mark in name for mark in AUTHENTICATED), name
    groups = {one.get("name", "").split(" ")[0] for one in found.iter("group")}
    assert {"x25519", "secp256r1"} <= groups
    assert groups.isdisjoint({"ffdhe4096", "ffdhe6144", "ffdhe8192"})
    assert [one.get("supported") for one in found.iter("renegotiation")] == ["0"]
    assert "1" not in [one.get("supported") for one in found.iter("compression")]
    assert {one.get("vulnerable") for one in found.iter("heartbleed")} == {"0"}
