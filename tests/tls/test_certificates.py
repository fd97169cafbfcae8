"""Certificates: what is taken, what is refused, and that the one in force stays."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controller.clock import Instant
from controller.errors import Refused
from controller.tls import Certificates
from controller.tls.pair import read_pair

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
AUTHORITY = trustme.CA()


class Still:
    """A clock that stands."""

    def __init__(self) -> None:
        self.wall = NOW.timestamp()

    def now(self) -> Instant:
        return Instant(self.wall, 1000.0, "boot")


class Workers:
    def __init__(self) -> None:
        self.served: Mapping[str, tuple[str, str]] = {}

    def take(self, pairs: Mapping[str, tuple[str, str]]) -> None:
        self.served = dict(pairs)


def a_pair(*hosts: str, days: int = 90, starts: int = -1) -> tuple[str, str]:
    """Return a chain and a key for *hosts*, valid around NOW."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0] if hosts else "nobody")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + dt.timedelta(days=starts))
        .not_valid_after(NOW + dt.timedelta(days=days))
    )
    if hosts:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    chain = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return chain, key.private_bytes(serialization.Encoding.PEM, form, plain).decode()


def a_request() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def an_ssh_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    form, plain = serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode()


def a_public_key() -> str:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.PEM, form).decode()


@pytest.fixture
def workers() -> Workers:
    return Workers()


@pytest.fixture
def kept(tmp_path: Path, workers: Workers) -> Certificates:
    return Certificates(tmp_path / "certificates", Still(), workers.take)


def test_a_good_one_is_in_force_at_once_and_after_a_restart(
    kept: Certificates, workers: Workers, tmp_path: Path
) -> None:
    chain, key = a_pair("shop.example.com", "*.shop.example.com")
    added = kept.add("shop.example.com", chain, key)
    assert added.names == ("*.shop.example.com", "shop.example.com")
    assert set(workers.served) == {"shop.example.com"}
    later = Workers()
    again = Certificates(tmp_path / "certificates", Still(), later.take)
    again.load()
    assert read_pair(*later.served["shop.example.com"]) == read_pair(chain, key)
    assert again.names() == {"shop.example.com", "*.shop.example.com"}


def test_its_file_is_for_us_alone(kept: Certificates, tmp_path: Path) -> None:
    kept.add("shop.example.com", *a_pair("shop.example.com"))
    places = list((tmp_path / "certificates").iterdir())
    assert [(p.name, p.stat().st_mode & 0o777) for p in places] == [("shop.example.com.pem", 0o600)]


def test_a_chain_with_its_authority_is_taken(kept: Certificates, workers: Workers) -> None:
    issued = AUTHORITY.issue_cert("shop.example.com")
    chain = "".join(blob.bytes().decode() for blob in issued.cert_chain_pems) + AUTHORITY.cert_pem.bytes().decode()
    kept.add("shop.example.com", chain, issued.private_key_pem.bytes().decode())
    assert "shop.example.com" in workers.served


def bad_ones() -> dict[str, tuple[str, str, str]]:
    chain, key = a_pair("shop.example.com")
    other_chain, other_key = a_pair("other.example.com")
    nameless, nameless_key = a_pair()
    old, old_key = a_pair("shop.example.com", days=-1, starts=-90)
    early, early_key = a_pair("shop.example.com", starts=3)
    return {
        "another's key": (chain, other_key, "the key is not the certificate's"),
        "another host": (other_chain, other_key, "the certificate is for other.example.com"),
        "no host": (nameless, nameless_key, "names no host"),
        "expired": (old, old_key, "has expired"),
        "not yet": (early, early_key, "not valid yet"),
        "how to make one": (nameless, nameless_key, "-addext subjectAltName=DNS:HOST"),
        "no certificate": ("hello", key, "no certificate in it;"),
        "swapped": (key, chain, "no certificate in it, but a private key;"),
        "a request": (a_request(), key, "no certificate in it, but a certificate request: an authority has to sign"),
        "a damaged one": (chain.replace("M", "N", 3), key, "no certificate in it"),
        "no key": (chain, "hello", "no private key in it;"),
        "twice the chain": (chain, chain, "no private key in it, but a certificate;"),
        "a key for ssh": (chain, an_ssh_key(), "no private key in it, but a key for ssh;|the key is not the cert"),
        "a public key": (chain, a_public_key(), "no private key in it, but a public key;"),
        "out of order": (chain + other_chain, key, "out of order"),
    }


@pytest.mark.parametrize("which", sorted(bad_ones()))
def test_a_bad_one_is_refused_with_its_reason_and_the_one_in_force_stays(
    kept: Certificates, workers: Workers, which: str
) -> None:
    good = a_pair("shop.example.com")
    kept.add("shop.example.com", *good)
    before = dict(workers.served)
    chain, key, says = bad_ones()[which]
    with pytest.raises(Refused, match=says):
        kept.add("shop.example.com", chain, key)
    assert workers.served == before
    assert [one.host for one in kept.list()] == ["shop.example.com"]


def test_a_key_with_a_password_is_refused_with_the_way_out(kept: Certificates) -> None:
    chain, _ = a_pair("shop.example.com")
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    with pytest.raises(Refused, match="openssl pkey"):
        kept.add("shop.example.com", chain, locked.decode())


def test_a_file_that_cannot_be_used_is_told_and_the_others_serve(
    kept: Certificates, workers: Workers, tmp_path: Path
) -> None:
    kept.add("shop.example.com", *a_pair("shop.example.com"))
    (tmp_path / "certificates" / "blog.example.com.pem").write_text("torn")
    kept.load()
    assert set(workers.served) == {"shop.example.com"}
    assert [(one.host, bool(one.problem)) for one in kept.list()] == [
        ("blog.example.com", True),
        ("shop.example.com", False),
    ]
    assert [f.state for f in kept.findings()] == ["error", "ok"]


def test_removing_takes_it_from_the_workers_and_an_unknown_one_is_said_so(kept: Certificates, workers: Workers) -> None:
    kept.add("shop.example.com", *a_pair("shop.example.com"))
    kept.remove("shop.example.com")
    assert workers.served == {}
    with pytest.raises(Refused, match="oton cert list"):
        kept.remove("shop.example.com")


def test_one_that_ends_soon_is_told_with_the_command_that_mends_it(kept: Certificates) -> None:
    kept.add("shop.example.com", *a_pair("shop.example.com", days=5))
    (finding,) = kept.findings()
    assert (finding.state, finding.text) == ("warning", "shop.example.com: ends in 5 days")
    assert finding.mend.startswith("oton cert add shop.example.com")


def test_a_host_is_served_from_its_own_file_else_from_one_that_covers_it(tmp_path: Path, workers: Workers) -> None:
    clock = Still()
    kept = Certificates(tmp_path / "certificates", clock, workers.take)
    kept.add("example.com", *a_pair("example.com", "*.example.com"))
    kept.add("b.example.com", *a_pair("b.example.com", days=10))
    assert kept.file_for("a.example.com").name == "example.com.pem"
    assert kept.file_for("b.example.com").name == "b.example.com.pem"
    clock.wall += 20 * 86400
    assert kept.file_for("b.example.com").name == "example.com.pem"
    clock.wall += 200 * 86400
    for host in ("a.example.com", "example.org"):
        with pytest.raises(Refused, match=f"there is no certificate for {host}"):
            kept.file_for(host)
