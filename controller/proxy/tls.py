"""
Certificates of the public side: chosen by the name that a client asks for, swapped without touching what is open.

A handshake for a name that none covers, or for no name, is broken off; nobody is ever shown a certificate of
another host.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cryptography import x509

from controller.routing.match import BadTarget, normalise_host

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only; TLS 1.3 has no others."""

HANDSHAKE_S = 10.0
"""Longest time for a client to finish its handshake."""


RECORDS = 128
"""Records of one connection that are opened before the others have their turn, however small they are."""

_WITHOUT_ALERT = frozenset(("HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER"))
"""Failures of what is no handshake at all: OpenSSL has no answer to them."""


class Handshake(ssl.SSLObject):
    """
    A connection's TLS. A handshake that fails tells the client why: event loops drop the alert that OpenSSL wrote last.

    Event loops open all records that a read brought at once; this one says that there are no more after a few.
    """

    _failure: ssl.SSLError | None = None
    _records = RECORDS

    def read(self, length: int = 1024, buffer: bytearray | None = None) -> bytes | int:  # type: ignore[override]
        """Open one record; after `RECORDS` of them there is nothing more, until `is_spent` was asked."""
        if self._records <= 0:
            raise ssl.SSLWantReadError
        self._records -= 1
        return super().read(length, buffer)

    def is_spent(self) -> bool:
        """Say whether more records may be there than were opened, and let the next be opened."""
        spent = self._records <= 0
        self._records = RECORDS
        return spent

    def do_handshake(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if error.reason in _WITHOUT_ALERT:
                raise
            # Hearing this the loop sends what is written. The client closes on it, or the time for handshakes ends.
            self._failure = error
            raise ssl.SSLWantReadError from error


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate with its key, ready to serve."""

    context: ssl.SSLContext
    names: frozenset[str]
    pems: tuple[str, str]

    def covers(self, host: str) -> bool:
        """Say whether the certificate is for *host*, by name or by a wildcard for one label."""
        return host in self.names or "*." + host.partition(".")[2] in self.names


def _make_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = 1  # a second one costs every handshake, and clients that come back use one
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


# Made at import, so before workers are forked: the keys of session tickets live in it, and a client that comes
# back may meet another worker.
_DOOR = _make_context()
_DOOR.sslobject_class = Handshake


class Keyring:
    """The certificates in force in this worker."""

    def __init__(self) -> None:
        self._by_name: Mapping[str, Certificate] = {}
        self._held: dict[str, Certificate] = {}

    def take(self, pems: Mapping[str, tuple[str, str]]) -> dict[str, str]:
        """
        Put exactly the certificates of *pems* (host -> certificate chain and key, PEM) in force.

        Returns the reason for each one that cannot be used; the one in force for that host then stays.
        """
        refused: dict[str, str] = {}
        held: dict[str, Certificate] = {}
        for host, pair in pems.items():
            before = self._held.get(host)
            if before is not None and before.pems == pair:
                held[host] = before
                continue
            try:
                held[host] = load_certificate(*pair)
            except (ValueError, ssl.SSLError, OSError) as error:
                refused[host] = str(error) or type(error).__name__
                if before is not None:
                    held[host] = before
        self._held = held
        self._by_name = _index(held)
        return refused

    def door(self) -> ssl.SSLContext:
        """Return the context to listen with; it only chooses, and is the same however often certificates change."""
        _DOOR.sni_callback = self._choose
        return _DOOR

    def find(self, host: str) -> Certificate | None:
        """Return the certificate for *host*: the exact name's, else a wildcard's."""
        return self._by_name.get(host) or self._by_name.get("*." + host.partition(".")[2])

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        found = None
        if name:
            with contextlib.suppress(BadTarget):
                found = self.find(normalise_host(name))
        if found is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = found.context
        return None


def certificate_of(connection: object) -> Certificate | None:
    """Return the certificate that a connection (an SSLObject) was opened with, also when it was replaced since."""
    context = getattr(connection, "context", None)
    found = getattr(context, "certificate", None)
    return found if isinstance(found, Certificate) else None


def load_certificate(chain: str, key: str) -> Certificate:
    """Make a certificate ready to serve; raises ValueError or ssl.SSLError where chain and key are no pair."""
    leaf = x509.load_pem_x509_certificate(chain.encode())
    context = _make_context()
    with _as_file(chain + "\n" + key) as path:
        context.load_cert_chain(path)
    certificate = Certificate(context, _names_of(leaf), (chain, key))
    context.certificate = certificate  # type: ignore[attr-defined]
    return certificate


def _names_of(leaf: x509.Certificate) -> frozenset[str]:
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    names = {name.lower() for name in alternative.get_values_for_type(x509.DNSName)}
    return frozenset(names | {str(address) for address in alternative.get_values_for_type(x509.IPAddress)})


def _index(held: Mapping[str, Certificate]) -> dict[str, Certificate]:
    """Map every name to its certificate; a host's own entry wins over another certificate that covers it too."""
    by_name = {name: certificate for _, certificate in sorted(held.items()) for name in certificate.names}
    own = {host.lower(): certificate for host, certificate in held.items() if host.lower() in certificate.names}
    return by_name | own


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Give OpenSSL the path that it wants, for a key that is never on a disk where the system lets us."""
    number = os.memfd_create("certificate", os.MFD_CLOEXEC) if hasattr(os, "memfd_create") else -1
    path = f"/proc/self/fd/{number}"
    try:
        if number >= 0 and os.write(number, text.encode()) and os.access(path, os.R_OK):
            yield path
            return
    finally:
        if number >= 0:
            os.close(number)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        yield file.name
