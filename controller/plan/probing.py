"""
By whose rules a replica is asked whether it is ready.

Containers outlive releases, so what is asked of them may change while they serve. Until the switch the release that
serves is asked by decides on traffic; the one to come has its own question put beside it, and is not live before
that was answered well. So a new probe that can never pass fails its release and takes nobody down.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from controller.plan.picture import Picture
from controller.plan.situation import Release
from controller.spec.health import Health
from controller.spec.model import AppSpec
from controller.world.model import Replica, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a replica is asked; equal for releases that tell readiness in the same way."""

    method: str
    """path (GET health.path), engine (its health verdict), root (GET / below 500), or alive."""
    health: Health
    host: str
    https: bool


def question_of(release: Release, tls_hosts: Collection[str]) -> Question:
    """Return what *release* has its replicas asked."""
    spec = release.spec
    return Question(
        method=_method(release), health=spec.health, host=spec.probe_host, https=_redirects_plain(spec, tls_hosts)
    )


def judge_of(p: Picture, replica: Replica) -> Release | None:
    """Return the release whose question decides whether *replica* takes requests now; None: nobody knows it."""
    known = tuple(r for _, r in sorted(p.s.releases.items(), reverse=True) if r.container_digest == replica.digest)
    rollout = p.s.memory.rollout
    is_before_switch = rollout is not None and rollout.switched is None
    wanted = (p.live, p.target) if is_before_switch else (p.target, p.live)
    return next((r for r in (*wanted, *known) if r in known), None)


def candidate_of(p: Picture, replica: Replica) -> Release | None:
    """Return the release whose question *replica* has to answer, beside the one that decides, before it is live."""
    rollout, target = p.s.memory.rollout, p.target
    if rollout is None or rollout.switched is not None or rollout.failing:
        return None
    if target is None or target.container_digest != replica.digest:
        return None
    asked = judge_of(p, replica)
    asked = _asked_before(p, replica, target) if asked == target else asked
    if asked is None or question_of(target, p.s.tls_hosts) == question_of(asked, p.s.tls_hosts):
        return None
    return target


def _asked_before(p: Picture, replica: Replica, target: Release) -> Release | None:
    """Return by whose rules a replica was asked that a release before *target* had; None: it is *target*'s own."""
    between = (r for n, r in sorted(p.s.releases.items(), reverse=True) if replica.release <= n < target.number)
    return next((r for r in between if r.container_digest == replica.digest and r.outcome != "failed"), None)


def trial_id(replica: Replica, candidate: Release) -> str:
    """Return the name under which the verdict on *replica* by the rules of *candidate* is kept."""
    return f"{replica.id}?{candidate.number}"


def proof_of(p: Picture, replica: Replica) -> Verdict | None:
    """Return the verdict that counts for the release to come; None: there is none yet."""
    candidate = candidate_of(p, replica)
    return p.s.world.verdicts.get(trial_id(replica, candidate) if candidate else replica.id)


def is_proven(p: Picture, replica: Replica) -> bool:
    """Say whether *replica* is ready by the rules of the release to come."""
    if candidate_of(p, replica) is None:
        return p.is_ready(replica)
    proof = proof_of(p, replica)
    return replica.state == "running" and not p.is_leaving(replica) and proof is not None and proof.ready


def was_proven(p: Picture, replica: Replica) -> bool:
    """Say whether it has been ready at any time by the rules of the release to come."""
    if candidate_of(p, replica) is None:
        return p.was_ready(replica)
    proof = proof_of(p, replica)
    return proof is not None and proof.ever_ready


def proven(p: Picture, replicas: Iterable[Replica]) -> tuple[Replica, ...]:
    """Return those that are ready by the rules of the release to come."""
    return tuple(r for r in replicas if is_proven(p, r))


def _method(release: Release) -> str:
    spec = release.spec
    if spec.health.command is not None:
        return "engine"
    if spec.health.path is not None:
        return "path"
    if release.image_healthcheck:
        return "engine"
    return "root" if spec.port is not None else "alive"


def _redirects_plain(spec: AppSpec, tls_hosts: Collection[str]) -> bool:
    if spec.proxy.https in ("redirect", "only"):
        return True
    host = spec.probe_host
    is_covered = host in tls_hosts or "*." + host.partition(".")[2] in tls_hosts
    return spec.proxy.https == "auto" and is_covered
