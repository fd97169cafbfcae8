"""From a spec and its replicas to the app's entry in the table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from controller.routing.table import (
    AppRoutes,
    Group,
    HeaderEdit,
    Mode,
    Policy,
    RateLimit,
    Redirect,
    Rule,
    Upstream,
)
from controller.spec.model import AppSpec, Proxy
from controller.spec.model import HeaderEdit as SpecEdit


def build_routes(
    spec: AppSpec,
    upstreams: Iterable[Upstream],
    *,
    mode: Mode = "serve",
    hold_s: float = 30.0,
    message: str = "",
    weights: tuple[tuple[int, int], ...] = (),
    coming: Iterable[Rule] = (),
) -> AppRoutes | None:
    """Return the app's entry; None where the spec has no routes and nothing is left to drain.

    *coming* are rules of a release that does not serve yet.
    """
    rules = build_rules(spec)
    known = {(r.host, r.path) for r in rules}
    rules += tuple(r for r in coming if (r.host, r.path) not in known)
    ordered = tuple(sorted(upstreams, key=lambda u: (u.release, u.id)))
    if not rules and not ordered:
        return None
    return AppRoutes(
        app=spec.name,
        rules=rules,
        upstreams=ordered,
        mode=mode,
        hold_s=hold_s if mode == "hold" else 30.0,
        message=message if mode == "maintenance" else "",
        weights=weights,
        policy=build_policy(spec.proxy),
    )


def build_rules(spec: AppSpec, group: Group = "live") -> tuple[Rule, ...]:
    """Return the spec's routes, and its preview host, as rules."""
    rules = tuple(Rule(host=route.host, path=route.path, strip=route.strip_path, group=group) for route in spec.routes)
    preview = getattr(spec.strategy, "preview_host", None)
    return (*rules, Rule(host=preview, group="preview")) if preview else rules


def announce(rule: Rule) -> Rule:
    """Return the rule as one of a release that does not serve yet."""
    return replace(rule, announced=True)


def build_policy(proxy: Proxy) -> Policy:
    """Return the spec's `proxy` block as the lane reads it."""
    limit = proxy.rate_limit
    return Policy(
        timeout_s=proxy.timeout,
        idle_s=proxy.idle,
        body_limit_bytes=proxy.body_limit,
        max_in_flight=proxy.max_in_flight,
        https=proxy.https,
        hsts_s=proxy.hsts,
        sticky=proxy.sticky,
        assets=proxy.assets,
        request_headers=_edit(proxy.headers.request),
        response_headers=_edit(proxy.headers.response),
        basic_auth=proxy.basic_auth,
        allow=proxy.allow,
        rate_limit=RateLimit(requests=limit.requests, per_s=limit.per, burst=limit.burst_count) if limit else None,
        canonical_host=proxy.canonical_host,
        redirects=tuple(Redirect(source=r.source, to=r.to, code=r.code) for r in proxy.redirects),
        inspect=proxy.inspect,
        inspect_required=proxy.inspect_required,
        addons=proxy.addons,
    )


def _edit(rules: SpecEdit) -> HeaderEdit:
    return HeaderEdit(set=tuple(sorted(rules.set.items())), remove=rules.remove)
