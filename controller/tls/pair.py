"""A certificate chain and its key, read and judged before anybody is shown them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from controller.errors import Refused

MAKE = "For a test: openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=HOST -addext subjectAltName=DNS:HOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One chain with its key, as PEM, and what the leaf says of itself."""

    chain: str
    key: str
    names: tuple[str, ...]
    issuer: str
    not_before: float
    """Wall seconds."""
    not_after: float

    def covers(self, host: str) -> bool:
        """Say whether the leaf is for *host*, by name or by a wildcard for one label."""
        return covers(self.names, host)


def covers(names: Sequence[str] | frozenset[str], host: str) -> bool:
    """Say whether one of *names* is *host*, or a wildcard for its first label."""
    return host in names or "*." + host.partition(".")[2] in names


def read_pair(chain: str, key: str) -> Pair:
    """Return the pair; Refused says what is wrong with the chain, the key, or the two together."""
    leaf = _read_leaf(chain)
    private = _read_key(key)
    if _public(private) != leaf.public_key().public_bytes(*_FORM):
        raise Refused("the key is not the certificate's: give the key that the certificate was requested with")
    _check_order(chain)
    issuer = leaf.issuer.rfc4514_string()
    return Pair(
        chain=chain,
        key=key,
        names=_names(leaf),
        issuer=issuer,
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
    )


_FORM = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _read_leaf(chain: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(chain.encode())[0]
    except (ValueError, x509.InvalidVersion):
        allowed = "allowed: PEM, the host's own certificate first, then its chain"
        raise Refused(f"no certificate in it{_what_it_is(chain)}; {allowed}") from None


def _read_key(key: str) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(key.encode(), password=None)
    except TypeError:
        raise Refused("the key is protected by a password; remove it (openssl pkey -in KEY -out PLAIN)") from None
    except (ValueError, UnsupportedAlgorithm):
        allowed = "allowed: PEM, RSA or ECDSA, without a password"
        raise Refused(f"no private key in it{_what_it_is(key)}; {allowed}") from None


def _what_it_is(text: str) -> str:
    """Say what stands in the place of what was wanted, where that can be told."""
    for mark, what in {
        "CERTIFICATE REQUEST-----": "but a certificate request: an authority has to sign it first",
        "BEGIN CERTIFICATE-----": "but a certificate",
        "OPENSSH PRIVATE KEY-----": "but a key for ssh",
        "PRIVATE KEY-----": "but a private key",
        "PUBLIC KEY-----": "but a public key",
    }.items():
        if mark in text:
            return f", {what}"
    return ""


def _public(private: PrivateKeyTypes) -> bytes:
    return private.public_key().public_bytes(*_FORM)


def _check_order(chain: str) -> None:
    """A chain that does not lead on from the leaf fails in browsers that have not seen the rest before."""
    links = x509.load_pem_x509_certificates(chain.encode())
    for one, two in itertools.pairwise(links):
        if one.issuer != two.subject:
            lacks = f"{one.subject.rfc4514_string()} was issued by {one.issuer.rfc4514_string()}"
            raise Refused(f"the chain is out of order: {lacks}, which is not the certificate that follows it")


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise Refused(f"it names no host (no subjectAltName); browsers refuse such certificates. {MAKE}") from None
    except (ValueError, x509.DuplicateExtension):
        raise Refused("its extensions cannot be read") from None
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return tuple(sorted({name.lower() for name in names.get_values_for_type(x509.DNSName)} | addresses))
