"""
How long GET /v1/apps takes on a service that runs a hundred apps, each with a replica on the real engine.

It is asked on the Unix socket, on one kept connection, one request after the other, once all apps are live.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.first_answer import cpu
from controller import __version__
from tests.parts.images import ensure_backend_image
from tests.parts.service import Service, a_spec
from tests.parts.wait import wait_for

APPS = 100
REQUESTS = 300
READY_S = 600.0
ALLOWED_MS = 20


def main() -> int:
    image = ensure_backend_image("v1")
    with tempfile.TemporaryDirectory(prefix="oton-bench-") as room:
        service = Service(Path(room), {"LOG_LEVEL": "warning", "OTON_ACCESS_LOG": "off"})
        try:
            service.start()
            for number in range(APPS):
                name = f"app-{number:03}"
                spec = a_spec(name, image, replicas=1, deadline="10m", health={"path": "/healthz", "interval": "5s"})
                service.write_spec(spec, f"{name}.yaml")
            wait_for(lambda: is_at_rest(service), READY_S, f"{APPS} apps are live", 1.0)
            took = [ask(service) for _ in range(REQUESTS)]
        finally:
            service.close()
    return report(took)


def is_at_rest(service: Service) -> bool:
    rows = service.apps()
    return len(rows) == APPS and all((row["sync"], row["health"]) == ("synced", "healthy") for row in rows)


def ask(service: Service) -> float:
    """Return the seconds that one list took."""
    began = time.perf_counter()
    answer = service.api("GET", "/v1/apps")
    took = time.perf_counter() - began
    assert len(answer.json()) == APPS
    return took


def report(took: list[float]) -> int:
    """Print the figures; return 1 where the median is more than allowed."""
    print(f"{cpu()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Linux {platform.release()}")
    print(f"Python {platform.python_version()}, oton {__version__}\n")
    median, late = statistics.median(took) * 1000, statistics.quantiles(took, n=100)[98] * 1000
    print(f"GET /v1/apps, {APPS} apps, {REQUESTS} requests: median {median:.1f} ms, p99 {late:.1f} ms")
    print(f"allowed: a median of at most {ALLOWED_MS} ms")
    return 0 if median <= ALLOWED_MS else 1


if __name__ == "__main__":
    sys.exit(main())
