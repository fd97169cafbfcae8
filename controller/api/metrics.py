"""The service's numbers in Prometheus' own words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
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


def proxy_families(counters: Mapping[str, Any], who: Caller) -> Iterator[Metric]:
    """Yield what the workers counted of the caller's apps; what belongs to no app only to who sees all."""
    told = [row for row in counters.get("requests", ()) if who.sees(row["app"] or None)]
    yield count_totals(told)
    # Without what has left: a series that takes in what others counted would look like a burst of requests.
    rows = [row for row in told if row["release"] >= 0]
    yield count_requests(rows)
    yield count_bytes(rows)
    yield measure_latency(rows, [str(bound) for bound in counters.get("bounds", ())])
    events = CounterMetricFamily("oton_proxy_events", "Retries, ejections, holds and cuts", labels=["app", "event"])
    for row in counters.get("events", ()):
        if who.sees(row["app"] or None):
            events.add_metric([row["app"], row["what"]], row["count"])
    yield events
    active = [row for row in counters.get("active", ()) if who.sees(row["app"] or None)]
    yield gauge("oton_requests_active", "Open requests", [((r["app"],), float(r["requests"])) for r in active], ["app"])
    yield gauge(
        "oton_requests_held", "Requests that are held", [((r["app"],), float(r["held"])) for r in active], ["app"]
    )
    if who.apps is None:
        connections, lag_s = float(counters.get("connections", 0)), float(counters.get("lag_s", 0.0))
        yield gauge("oton_proxy_connections", "Open connections of clients", [((), connections)])
        yield gauge("oton_proxy_lag_seconds", "Longest delay of a worker's event loop lately", [((), lag_s)])


def count_totals(rows: list[Mapping[str, Any]]) -> Metric:
    """Return the count of requests by app and status class, of all releases that ever were."""
    totals: dict[tuple[str, str], int] = {}
    for row in rows:
        labels = (row["app"], f"{row['class']}xx")
        totals[labels] = totals.get(labels, 0) + row["count"]
    family = CounterMetricFamily("oton_app_requests", "Finished requests of all releases", labels=["app", "class"])
    for labels, count in sorted(totals.items()):
        family.add_metric(list(labels), count)
    return family


def count_requests(rows: list[Mapping[str, Any]]) -> Metric:
    """Return the count of requests by app, release and status class."""
    family = CounterMetricFamily("oton_requests", "Finished requests", labels=["app", "release", "class"])
    for row in rows:
        family.add_metric([row["app"], str(row["release"]), f"{row['class']}xx"], row["count"])
    return family


def count_bytes(rows: list[Mapping[str, Any]]) -> Metric:
    """Return the bytes of bodies, from and to clients."""
    family = CounterMetricFamily("oton_body_bytes", "Bytes of bodies", labels=["app", "release", "class", "direction"])
    for row in rows:
        labels = [row["app"], str(row["release"]), f"{row['class']}xx"]
        family.add_metric([*labels, "in"], row["bytes_in"])
        family.add_metric([*labels, "out"], row["bytes_out"])
    return family


def measure_latency(rows: list[Mapping[str, Any]], bounds: list[str]) -> Metric:
    """Return the histogram of latencies by app, release and status class."""
    family = HistogramMetricFamily(
        "oton_request_seconds",
        "Time from a request's head to the end of its answer",
        labels=["app", "release", "class"],
    )
    for row in rows:
        buckets = list(zip([*bounds, "+Inf"], accumulate(row["buckets"]), strict=False))
        labels = [row["app"], str(row["release"]), f"{row['class']}xx"]
        family.add_metric(labels, buckets=buckets, sum_value=row["seconds"])
    return family


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
