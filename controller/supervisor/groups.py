"""
Which key exchanges the proxy agrees to: those whose cost is the client's as much as ours.

OpenSSL before 3.5 lets any client ask for ffdhe8192: eighty times the work of X25519 for us, and next to none for the
client, who may send any number. Python's ssl has no word for a list of groups, so OpenSSL reads it from a configuration
as it is loaded.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator

_MODEST_SINCE = (3, 5)
"""From here on OpenSSL's own list ends at ffdhe3072, and has post-quantum groups that ours would take away."""

_CONFIGURATION = b"""openssl_conf = oton
[oton]
ssl_conf = tls
[tls]
system_default = contexts
[contexts]
Groups = X25519:P-256:P-384:P-521:X448
"""


@contextlib.contextmanager
def limit_groups() -> Iterator[tuple[dict[str, str], frozenset[int]]]:
    """Yield the environment and the descriptors that a process must start with to agree to these groups alone."""
    if ssl.OPENSSL_VERSION_INFO[:2] >= _MODEST_SINCE or not hasattr(os, "memfd_create"):
        yield {}, frozenset()
        return
    # No file: the nursery loads OpenSSL as a user who may not be able to read ours.
    number = os.memfd_create("openssl.cnf", os.MFD_CLOEXEC)
    try:
        os.write(number, _CONFIGURATION)
        yield {"OPENSSL_CONF": f"/proc/self/fd/{number}"}, frozenset((number,))
    finally:
        os.close(number)
