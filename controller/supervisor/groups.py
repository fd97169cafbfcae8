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

from controller.kernel import seal_in_memory

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
    modest = ssl.OPENSSL_VERSION_INFO[:2] >= _MODEST_SINCE
    # No file on a disk: the nursery loads OpenSSL as a user who may not be able to read ours.
    number = None if modest else seal_in_memory("openssl.cnf", _CONFIGURATION)
    if number is None:
        yield {}, frozenset()
        return
    try:
        yield {"OPENSSL_CONF": f"/proc/self/fd/{number}"}, frozenset((number,))
    finally:
        os.close(number)
