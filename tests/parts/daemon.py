"""The engine that the tests run on: the one at DOCKER_HOST, else the one at the usual socket."""

from __future__ import annotations

import docker
from docker.utils import kwargs_from_env


def connect(timeout_s: float = 60) -> docker.APIClient:
    """Return a client; a plain `APIClient()` would not look at DOCKER_HOST."""
    return docker.APIClient(timeout=timeout_s, **kwargs_from_env())
