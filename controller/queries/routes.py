"""How the table is shown, and which rule, release and replica a URL would get."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from controller.queries.seen import Row
from controller.routing.match import BadTarget, Match, compile_table, normalise_host
from controller.routing.table import AppRoutes, Rule, Table, Upstream


def render_routes(routes: AppRoutes | None) -> list[Row]:
    """Render an app's entry of the table, one row a rule."""
    if routes is None:
        return []
    return [render_rule(routes, rule) for rule in routes.rules]


def render_rule(routes: AppRoutes, rule: Rule) -> Row:
    """Render one rule with the upstreams behind it and their share of new requests in percent."""
    group = [] if rule.announced else [one for one in routes.upstreams if one.group == rule.group]
    behind = [one for one in group if one.state in ("ready", "draining")]
    shares = share_out(routes, behind)
    releases = [one.release for one in behind if one.state == "ready"]
    return {
        "host": rule.host,
        "path": rule.path,
        "app": routes.app,
        "release": max(releases, key=lambda number: (releases.count(number), -number)) if releases else None,
        "group": rule.group,
        "announced": rule.announced,
        "kept_for": rule.kept_for or None,
        "mode": routes.mode if rule.group == "live" else "serve",
        "upstreams": [
            {
                "address": join_address(one.address, one.port),
                "ready": one.state == "ready",
                "weight": shares[one.id],
                "release": one.release,
                "id": one.id,
            }
            for one in behind
        ],
    }


def share_out(routes: AppRoutes, behind: list[Upstream]) -> dict[str, float]:
    """Return each upstream's share of new requests in percent."""
    ready = [one for one in behind if one.state == "ready"]
    weights = dict(routes.weights) if routes.weights and any(one.group == "live" for one in behind) else {}
    raw = {
        one.id: (weights.get(one.release, 0) / sum(1 for other in ready if other.release == one.release))
        if weights
        else 1.0
        for one in ready
    }
    total = sum(raw.values()) or 1.0
    return {one.id: round(100 * raw.get(one.id, 0.0) / total, 1) for one in behind}


def join_address(address: str | None, port: int | None) -> str | None:
    """Join address and port, IPv6 in brackets."""
    if address is None:
        return None
    host = f"[{address}]" if ":" in address else address
    return host if port is None else f"{host}:{port}"


def explain_url(url: str, entries: Mapping[str, AppRoutes]) -> Row:
    """
    Say which rule, release and replicas *url* would get, and why; `found` is False where no rule matches.

    Raises BadTarget where the proxy would answer 400.
    """
    parts = urlsplit(url if "//" in url else f"//{url}")
    host, path = normalise_host(parts.netloc.rpartition("@")[2]), parts.path or "/"
    match = compile_table(Table(apps=entries)).find(host, path)
    shown = {"url": url, "host": host, "path": path}
    if match is None:
        return shown | {"found": False, "why": "no route matches this host and path", "answer": "404"}
    return shown | explain_match(match, entries[match.app])


def explain_match(match: Match, routes: AppRoutes) -> Row:
    """Say what becomes of a request that belongs to *match*."""
    row = render_rule(routes, match.rule)
    ready = [one for one in row["upstreams"] if one["ready"]]
    return {
        "found": True,
        "app": match.app,
        "rule": {"host": match.rule.host, "path": match.rule.path, "strip_path": match.rule.strip},
        "why": match.explain(),
        "release": row["release"],
        "mode": row["mode"],
        "answer": foretell(row["mode"], bool(ready), routes),
        "upstreams": ready,
    }


def foretell(mode: str, has_ready: bool, routes: AppRoutes) -> str:
    """Say in words what the proxy would do with the request."""
    if mode == "maintenance":
        return f"503: maintenance: {routes.message}" if routes.message else "503: maintenance"
    if mode == "hold":
        return f"held for at most {routes.hold_s:g} s while the app is replaced"
    return "goes to one of the replicas" if has_ready else "503: no replica is ready"


__all__ = ["BadTarget", "explain_url", "join_address", "render_routes"]
