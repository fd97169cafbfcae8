"""
What an order would bring into force, judged by the rights of who gives it as if it were uploaded.

Without this a limited token could bring back what an administrator took away: an earlier release is a spec, too.
"""

from __future__ import annotations

from dataclasses import replace

from controller.api.auth import Caller
from controller.api.parts import Parts
from controller.api.refusals import check_spec
from controller.plan.brought import NOTHING, find_brought
from controller.plan.claims import Claim, Claims, claims_of
from controller.plan.picture import Picture
from controller.plan.situation import Order, Situation, Standing, Verb
from controller.spec.model import AppSpec
from controller.world.model import World


def check_order(parts: Parts, who: Caller, app: str, verb: Verb, to: int | None = None) -> str:
    """Return the digest of the only spec that the order may bring into force ("": any). Raises the 403."""
    if not who.is_limited:
        return ""
    situation = replace(situation_of(parts, app), standing=parts.directory.standing(app))
    order = Order(id=0, app=app, verb=verb, by=who.name, to=to, at=situation.now)
    brought = find_brought(Picture(situation), order)
    if brought is None:
        return NOTHING
    check_brought(parts, who, app, brought.spec, brought.digest)
    return brought.digest


def check_brought(parts: Parts, who: Caller, app: str, spec: AppSpec, digest: str) -> None:
    """Raise the 403 where *who* may not bring the spec into force; what is in force already nobody brings."""
    if who.is_limited and not is_in_force(parts, app, digest):
        check_spec(who, spec, claims_had(parts, app), parts.settings)


def is_in_force(parts: Parts, app: str, digest: str) -> bool:
    """Say whether the spec is the one that serves and that the file asks for."""
    seen, wanted = parts.model.seen(app), parts.directory.standing(app).wanted
    live = seen.live if seen is not None else None
    return live is not None and live.digest == digest and wanted is not None and wanted.digest == digest


def claims_had(parts: Parts, app: str) -> Claims:
    """Return the hosts and paths that the app has: by its spec in force, and by what serves."""
    wanted = parts.directory.standing(app).wanted
    seen = parts.model.seen(app)
    specs = [wanted.spec] if wanted is not None else []
    specs += [seen.live.spec] if seen is not None and seen.live is not None else []
    return frozenset[Claim]().union(*(claims_of(spec) for spec in specs))


def situation_of(parts: Parts, app: str) -> Situation:
    """Return the app's latest situation; an empty one where it is new."""
    latest = parts.model.latest(app)
    if latest is not None:
        return latest
    memory, releases, _ = parts.ledger.load(app)
    versions = tuple(sorted(parts.ledger.secrets.versions(app).items()))
    world = World(engine_up=parts.engine.reachable(), secret_versions=versions)
    return Situation(
        app=app, standing=Standing(app=app), memory=memory, releases=releases, world=world, now=parts.clock.now()
    )
