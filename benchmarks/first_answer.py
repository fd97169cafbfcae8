"""
From a changed spec to the first answer of the new version, beside what the engine alone needs for that container.

Each round copies a spec into the watched directory (`cp app.yaml desired/`) and asks through the proxy until the
new version answers. The bare figure is the engine's SDK making and starting the same container, until the app in it
answers at its own address. The difference is ours: seeing the file, planning, probing, publishing.
"""

from __future__ import annotations

import platform
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.parts.images import ensure_backend_image
from tests.parts.service import Service, a_spec, engine
from tests.parts.wait import wait_for

ROUNDS = 10
LIMIT_S = 20.0
ALLOWED_MS = 300
HOST = "shop.test"


def main() -> int:
    images = [ensure_backend_image(version) for version in ("v1", "v2")]
    bare = [measure_bare(images[turn % 2]) for turn in range(ROUNDS)]
    with tempfile.TemporaryDirectory(prefix="oton-bench-") as room:
        service = Service(Path(room), {"LOG_LEVEL": "warning", "OTON_ACCESS_LOG": "off"})
        try:
            service.start()
            service.write_spec(spec(images[0]))
            service.wait_version("v1")
            service.wait_app("shop", lambda row: row["sync"] == "synced")
            whole = [measure_swap(service, images[(turn + 1) % 2]) for turn in range(ROUNDS)]
        finally:
            service.close()
    report(bare, whole)
    return 0 if statistics.median(whole) - statistics.median(bare) <= ALLOWED_MS / 1000 else 1


def spec(image: str) -> str:
    return a_spec(image=image, replicas=1, health={"path": "/healthz", "interval": "100ms"}, drain="1s")


def measure_swap(service: Service, image: str) -> float:
    """Return the seconds from the changed file to the first answer of *image*'s version."""
    began = time.perf_counter()
    service.write_spec(spec(image))
    wait_for(
        lambda: ask("127.0.0.1", service.port) == image.rpartition(":")[2], LIMIT_S, "the new version answers", 0.002
    )
    took = time.perf_counter() - began
    service.wait_app("shop", lambda row: row["sync"] == "synced" and row["image"] == image)
    wait_for(lambda: len(service.containers("shop")) == 1, LIMIT_S, "the old replica is gone")
    return took


def measure_bare(image: str) -> float:
    """Return the seconds that create, start and the app's own start take without us."""
    with engine() as client:
        began = time.perf_counter()
        made = client.create_container(image, labels={"oton-bench": "1"})
        try:
            client.start(made["Id"])
            network = client.inspect_container(made["Id"])["NetworkSettings"]
            address = network["IPAddress"] or next(iter(network["Networks"].values()))["IPAddress"]
            wait_for(lambda: ask(address, 8000), LIMIT_S, "the app answers", 0.002)
            return time.perf_counter() - began
        finally:
            client.remove_container(made["Id"], force=True)


def ask(address: str, port: int) -> str:
    """Return the version that answers, "" for none."""
    try:
        with socket.create_connection((address, port), timeout=1) as side:
            side.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while data := side.recv(4096):
                answer += data
    except OSError:
        return ""
    lines = answer.decode("latin-1").lower().split("\r\n")
    return next((line.removeprefix("x-version: ") for line in lines if line.startswith("x-version: ")), "")


def report(bare: list[float], whole: list[float]) -> None:
    with engine() as client:
        version = client.version()["Version"]
    print(f"Docker {version}, Python {platform.python_version()}, {platform.machine()}, {ROUNDS} rounds each")
    print(f"{'':44}{'median':>9}{'min':>9}{'max':>9}")
    for name, values in (("engine alone: create, start, first answer", bare), ("changed file to first answer", whole)):
        row = (statistics.median(values), min(values), max(values))
        print(f"{name:44}" + "".join(f"{value * 1000:6.0f} ms" for value in row))
    ours = (statistics.median(whole) - statistics.median(bare)) * 1000
    print(f"ours: {ours:.0f} ms (at most {ALLOWED_MS} ms)")


if __name__ == "__main__":
    sys.exit(main())
