"""
Running containers that the history does not know: taken over as they are (law 7).

An empty database loses history, tokens, secrets and pins, and changes nothing that runs.
"""

from __future__ import annotations

from controller.plan.picture import Picture
from controller.plan.situation import Decision, Memory, Note, Release, Wanted
from controller.spec.digest import digest_container
from controller.world.model import Replica


def adopt(p: Picture) -> Decision | None:
    """Return the decision that takes over what runs as the live release; None where there is nothing to adopt."""
    wanted, memory = p.s.standing.wanted, p.s.memory
    running = [r for r in p.replicas if r.state == "running"]
    if memory.last_release or memory.removed or not running or wanted is None:
        return None
    chosen = max(running, key=lambda r: (p.is_routed(r), r.release, r.id))
    number = max(r.release for r in p.replicas)
    matches, restarts = _find_match(p, wanted, chosen, number)
    release = Release(
        number=chosen.release,
        spec=wanted.spec,
        digest=wanted.digest if matches else f"adopted:{chosen.digest}",
        image_id=chosen.image_id,
        container_digest=chosen.digest,
        restarts=restarts,
        secret_versions=p.versions_of(wanted.spec) if matches else (),
        by="oton",
        reason="adopted: it was already running but not in the history",
        outcome="live",
        was_live=True,
        started=p.s.now,
        finished=p.s.now,
    )
    held = "" if matches else f"what is running differs from {p.s.standing.file}, and the history is empty"
    return Decision(
        memory=Memory(last_release=number, live=chosen.release, held=held, change=memory.change),
        releases=(release,),
        notes=(Note(f"adopted release {chosen.release} from its running containers"),),
    )


def _find_match(p: Picture, wanted: Wanted, replica: Replica, number: int) -> tuple[bool, int]:
    """Say whether the file asks for just this container part, under any restart number so far."""
    for restarts in range(number + 1):
        found = digest_container(wanted.spec, replica.image_id, p.versions_of(wanted.spec), restarts)
        if found == replica.digest:
            return True, restarts
    return False, 0
