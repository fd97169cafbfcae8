"""Whom we believe to be the server: the system's authorities or the context's own; and why not, in plain words."""

from __future__ import annotations

import ssl
from pathlib import Path

from controller.cli.trouble import USAGE, Trouble

MAKE_CA = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=our-authority "
    "-addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem"
)
TRUST = "oton context add NAME URL --ca FILE, with the authority that signed it"
WRONG_CA = ("key usage", "key identifier", "Basic Constraints", "basic constraints", "invalid CA", "pathlen")
UNTRUSTED = ("self-signed", "self signed", "unable to get local issuer", "unable to verify")


def make_tls(ca: str) -> ssl.SSLContext:
    """Return what certificates we trust: the system's, or those in the file *ca*. Raises Trouble."""
    if ca:
        check_ca(Path(ca))
    return ssl.create_default_context(cafile=ca or None)


def check_ca(place: Path) -> None:
    """Raise Trouble unless *place* holds certificates, saying what it holds in their place."""
    try:
        text = place.read_bytes().decode("ascii", "replace")
    except OSError as error:
        raise Trouble(USAGE, f"{place}: cannot be read: {error.strerror}") from None
    try:
        ssl.create_default_context(cafile=str(place))
    except ssl.SSLError:
        raise Trouble(USAGE, f"{place}: {describe(text)}, and not an authority's certificate in PEM") from None


def describe(text: str) -> str:
    """Say what a file that is no certificate holds."""
    for mark, what in {
        "PRIVATE KEY-----": "holds a private key",
        "CERTIFICATE REQUEST-----": "holds a certificate request, which an authority has to sign first",
        "PUBLIC KEY-----": "holds a public key",
        "BEGIN CERTIFICATE-----": "holds a damaged certificate",
    }.items():
        if mark in text:
            return what
    is_binary = "\x00" in text or "\ufffd" in text
    return "is not text, maybe DER or PKCS #12" if is_binary else "holds no certificate"


def explain(error: ssl.SSLCertVerificationError, ca: str) -> tuple[str, str]:
    """Return why the server's certificate is not believed, and what to do."""
    said = error.verify_message
    if any(word in said for word in WRONG_CA):
        whose = f"the authority in {ca}, or a certificate that it signed," if ca else "one of its authorities"
        return (
            f"its certificate cannot be verified: {whose} is not made as RFC 5280 asks: {said}",
            f"make one: {MAKE_CA}",
        )
    if any(word in said for word in UNTRUSTED):
        who = ca or "no authority that this machine knows"
        return f"its certificate is not signed by {who}" if ca else f"its certificate is signed by {who}", TRUST
    if "expired" in said or "not yet valid" in said:
        return f"its certificate cannot be verified: {said}", "renew it there, and look at both clocks"
    return f"its certificate cannot be verified: {said}", ""
