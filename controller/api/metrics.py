"""The service's numbers in Prometheus' own words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from controller.api.auth import Caller
from controller.api.parts import Parts

CONTENT_TYPE = CONTENT_TYPE_LATEST
HEALTH = ("healthy", "degraded", "down", "unknown")


class Numbers:
    """Collects the numbers that one caller may see."""

    def __init__(self, parts: Parts, who: Caller) -> None:
        self._parts, self._who = parts, who

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        rows = [row for row in self._parts.model.rows() if self._who.sees(row["app"])]
        yield from app_families(rows)
        yield gauge("oton_engine_up", "1 where the engine answers", [((), float(self._parts.engine.reachable()))])
        yield gauge("oton_info", "The running version", [((self._parts.version,), 1.0)], ["version"])
        yield from proxy_families(self._parts.publisher.counters(), self._who)


def app_families(rows: list[dict[str, Any]]) -> Iterator[Metric]:
    """Yield what the controller knows of each app."""
    for name in ("wanted", "ready", "routed"):
        values = [((row["app"],), float(row["replicas"][name])) for row in rows]
        yield gauge(f"oton_app_replicas_{name}", f"Replicas {name}", values, ["app"])
    yield gauge(
        "oton_app_release", "The release that serves", [((r["app"],), float(r["release"] or 0)) for r in rows], ["app"]
    )
    states = [((row["app"], row["sync"]), 1.0) for row in rows]
    yield gauge("oton_app_sync", "How the app stands, as a label", states, ["app", "sync"])
    health = [((row["app"], word), float(row["health"] == word)) for row in rows for word in HEALTH]
    yield gauge("oton_app_health", "1 for the word that applies", health, ["app", "health"])


def proxy_families(counters: Any, who: Caller) -> Iterator[Metric]:
    """Yield what the workers counted, as far as it is the caller's."""
    flat = [pair for pair in flatten("", counters) if isinstance(pair[1], int | float)]
    if who.apps is None:
        values = [((name,), float(value)) for name, value in flat]
        family = CounterMetricFamily("oton_proxy", "What the proxy workers counted", labels=["name"])
        for labels, value in values:
            family.add_metric(labels, value)
        yield family


def flatten(prefix: str, value: Any) -> Iterable[tuple[str, Any]]:
    """Yield nested counters as dotted names."""
    if not isinstance(value, dict):
        return [(prefix, value)]
    return [pair for key, inner in value.items() for pair in flatten(f"{prefix}.{key}" if prefix else str(key), inner)]


def gauge(name: str, text: str, values: Iterable[tuple[tuple[str, ...], float]], labels: Iterable[str] = ()) -> Metric:
    """Return one gauge with its values."""
    family = GaugeMetricFamily(name, text, labels=list(labels))
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def render_metrics(parts: Parts, who: Caller) -> bytes:
    """Render all numbers that *who* may see."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Numbers(parts, who))
    return bytes(generate_latest(registry))
