"""What the service itself puts on the public side, and what of this machine is its own."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from controller.fixed.keeper import PREFIX
from controller.routing.table import AppRoutes, Policy, Rule, Upstream
from controller.settings import Settings

ENGINE_PORTS = frozenset((2375, 2376))
API = f"{PREFIX}api"
"""The table's entry of the API under its public host."""
INTERFACES = ("docker", "br-")
"""Names of the bridges on which containers are."""


def own_ports(settings: Settings) -> frozenset[int]:
    """Return the ports of this machine on which we or the engine answer."""
    ports = {settings.port, settings.tls_port, settings.api[1] if settings.api else None}
    host = urlsplit(settings.docker_host or "")
    ports.add(host.port if host.scheme in ("tcp", "http", "https") else None)
    return frozenset(p for p in ports if p) | ENGINE_PORTS


def container_networks(place: Path = Path("/proc/net/route")) -> tuple[str, ...]:
    """Return the networks of the machine's container bridges, as the kernel routes them."""
    try:
        lines = place.read_text().splitlines()[1:]
    except OSError:
        return ()
    rows = [fields for line in lines if len(fields := line.split()) > 7]
    bridges = [fields for fields in rows if fields[0].startswith(INTERFACES) and fields[1] != "00000000"]
    return tuple(sorted(f"{_dotted(fields[1])}/{_dotted(fields[7])}" for fields in bridges))


def _dotted(word: str) -> str:
    """Return an address that the kernel writes in hexadecimal, least significant byte first."""
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(word)))


def api_entry(settings: Settings) -> AppRoutes | None:
    """Return the entry under which the proxy serves the API; None where OTON_API_HOST is unset.

    A token must not cross a network in the clear, so plain requests are turned away. Without an API on TCP the host
    is still nobody else's: it answers 503.
    """
    if settings.api_host is None:
        return None
    places = [settings.api] if settings.api is not None else []
    return AppRoutes(
        app=API,
        rules=(Rule(host=settings.api_host),),
        upstreams=tuple(
            Upstream(id=f"{API}/{host}:{port}", address=host, port=port, release=0) for host, port in places
        ),
        policy=Policy(https="redirect" if settings.tls_port else "only", timeout_s=60.0),
    )
