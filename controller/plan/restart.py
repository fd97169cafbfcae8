"""A restart: every container of the app replaced, by a release of its own or by the rollout that is under way."""

from __future__ import annotations

from dataclasses import replace

from controller.plan.begin import Start
from controller.plan.picture import Picture
from controller.plan.situation import Release, Rollout


def plan_restart(p: Picture, by: str) -> Start | Release | None:
    """Return the release to begin, or the one under way that does it already; None: what is undone goes first."""
    rollout, target, live = p.s.memory.rollout, p.target, p.live
    if rollout is not None and target is not None:
        return _merge(p, rollout, target, by)
    return _start(live, "restart", by) if live is not None else None


def _merge(p: Picture, rollout: Rollout, target: Release, by: str) -> Start | Release | None:
    if rollout.failing or rollout.kind in ("rollback", "undo"):
        return None
    is_done_anyway = p.live is None or rollout.switched is not None or target.restarts == target.number
    if is_done_anyway or target.container_digest not in ("", p.live.container_digest if p.live else ""):
        return target
    again = {name: value for name, value in rollout.data.items() if name == "again"}
    return replace(_start(target, f"{target.reason}; restart", by), kind=rollout.kind, data=again)


def _start(release: Release, reason: str, by: str) -> Start:
    return Start(
        spec=release.spec,
        digest=release.digest,
        reason=reason,
        kind="restart",
        by=by,
        image_id=release.image_id,
        image_healthcheck=release.image_healthcheck,
        is_restart=True,
    )
