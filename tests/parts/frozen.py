"""A service that reaches the engine through a relay, so that a test can freeze it, cut it and lose its replies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.parts.relay import Address, Relay


def engine_address() -> Address:
    """Return where the engine that tests use listens, as Docker's own tools read it."""
    url = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    return Path(url.path) if url.scheme == "unix" else (url.hostname or "127.0.0.1", url.port or 2375)


@contextmanager
def engine_relay(place: Path) -> Iterator[Relay]:
    """Yield a relay to the engine that listens on the Unix socket *place*."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with Relay(target=engine_address(), listen=place) as relay:
        yield relay
