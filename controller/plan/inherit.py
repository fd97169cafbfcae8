"""Claims on their way between apps: what the one keeps until the other is ready, and what that one waits for."""

from __future__ import annotations

from dataclasses import replace

from controller.plan.claims import claim_of
from controller.plan.picture import Picture
from controller.plan.situation import Heir
from controller.routing.table import AppRoutes, Rule


def share_claims(p: Picture, routes: AppRoutes) -> AppRoutes:
    """
    Return the app's entry with every claim where it belongs now.

    What another has waits, once there is somebody to answer it; nothing else of the entry waits with it. What the
    app lets go is answered until its heir is ready.
    """
    own = tuple(_yielded(p, rule) for rule in routes.rules if claim_of(rule) not in p.s.foreign)
    known = {claim_of(rule) for rule in own if not rule.announced}
    kept = tuple(rule for rule in inherited(p) if claim_of(rule) not in known)
    instead = {claim_of(rule) for rule in kept}
    waiting = tuple(rule for rule in routes.rules if claim_of(rule) in p.s.foreign and _is_answered(p, routes, rule))
    return replace(
        routes,
        rules=(*(rule for rule in own if claim_of(rule) not in instead), *kept),
        waiting=waiting,
    )


def inherited(p: Picture) -> tuple[Rule, ...]:
    """Return those of the app's rules in force that another asks for, as they are kept for it."""
    published = p.s.world.routing.published
    rules = published.rules if published is not None else ()
    served = (rule for rule in rules if rule.group == "live" and not rule.announced)
    heirs = ((rule, p.s.heirs.get(claim_of(rule))) for rule in served)
    return tuple(replace(rule, kept_for=heir.app) for rule, heir in heirs if heir is not None)


def heirs_of(p: Picture) -> tuple[Heir, ...]:
    """Return who takes over what the app still serves, each once, by name."""
    found = {p.s.heirs[claim_of(rule)].app: p.s.heirs[claim_of(rule)] for rule in inherited(p)}
    return tuple(found[app] for app in sorted(found))


def _yielded(p: Picture, rule: Rule) -> Rule:
    """A release that serves on without a spec in force has no claim of its own against one that has."""
    standing, heir = p.s.standing, p.s.heirs.get(claim_of(rule))
    has_right = standing.wanted is not None or standing.held or p.is_suspended
    return rule if has_right or heir is None or rule.announced else replace(rule, kept_for=heir.app)


def _is_answered(p: Picture, routes: AppRoutes, rule: Rule) -> bool:
    """Say whether a request for *rule* would get the answer that the app's person wants."""
    if rule.announced or routes.mode != "serve":
        return False
    is_empty = p.live is not None and p.live.spec.replicas == 0 and p.s.memory.rollout is None
    is_ready = any(u.group == "live" and u.state == "ready" for u in routes.upstreams)
    return rule.group == "preview" or is_ready or is_empty
