"""The questions that every strategy asks of a situation: who is ready, who serves, whose slot is empty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.errors import Broken
from controller.plan.situation import Release, Rollout, Situation, Slot
from controller.routing.table import Upstream
from controller.spec.model import AppSpec
from controller.world.model import Replica

QUIET_S = 600.0
"""Running this long wipes a slot's record of exits."""
LONGEST_BACKOFF_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Muster:
    """A release's slots, counted: who fills them, which are empty, and what does not belong."""

    keep: tuple[Replica, ...]
    """Running and fit, one per slot; ready or not."""
    missing: tuple[int, ...]
    """Slots that nobody fills."""
    idle: Mapping[int, Replica]
    """Slot -> an existing container that only has to be started again."""
    broken: tuple[tuple[Replica, str], ...]
    """Dead, paused, changed by hand, or unready for too long; and why."""
    surplus: tuple[Replica, ...]
    """Beyond the wanted count, or second in a slot."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A situation with the answers that follow from it."""

    s: Situation

    @property
    def live(self) -> Release | None:
        """The release that serves."""
        return self.release(self.s.memory.live)

    @property
    def target(self) -> Release | None:
        """The release that the open rollout moves to."""
        rollout = self.s.memory.rollout
        return self.release(rollout.release) if rollout else None

    @property
    def rollout(self) -> Rollout:
        """The open rollout; there must be one."""
        if self.s.memory.rollout is None:
            raise Broken(f"{self.s.app}: a rollout was asked for and none is open")
        return self.s.memory.rollout

    @property
    def goal(self) -> Release:
        """The release of the open rollout; there must be one."""
        target = self.target
        if target is None:
            raise Broken(f"{self.s.app}: the open rollout's release is not in the history")
        return target

    def versions_of(self, spec: AppSpec) -> tuple[tuple[str, int], ...]:
        """Return today's version of each secret that *spec* names; 0: it is not set."""
        known = dict(self.s.world.secret_versions)
        return tuple(sorted((one.name, known.get(one.name, 0)) for one in spec.secrets))

    def release(self, number: int | None) -> Release | None:
        """Return a release by number, or None."""
        return None if number is None else self.s.releases.get(number)

    @property
    def is_suspended(self) -> bool:
        """Say whether the app is to be left alone, by an order or by its spec."""
        wanted = self.s.standing.wanted
        return self.s.memory.suspended or (wanted is not None and wanted.spec.suspend)

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """All of the app's replicas; one-offs, and what the engine is removing, left out."""
        return tuple(r for r in self.s.world.replicas if r.kind == "replica" and r.state != "removing")

    def of(self, release: Release | None) -> tuple[Replica, ...]:
        """Return the replicas made from this release's container part."""
        if release is None or not release.container_digest:
            return ()
        return tuple(r for r in self.replicas if r.digest == release.container_digest)

    def maker(self, replica: Replica) -> Release | None:
        """Return the newest known release that is made from the same container part; None: the history has none."""
        known = (r for _, r in sorted(self.s.releases.items(), reverse=True))
        return next((r for r in known if r.container_digest == replica.digest), None)

    def others(self, *releases: Release | None) -> tuple[Replica, ...]:
        """Return the replicas that belong to none of *releases*."""
        digests = {r.container_digest for r in releases if r is not None}
        return tuple(r for r in self.replicas if r.digest not in digests)

    def outgoing(self, release: Release) -> tuple[Replica, ...]:
        """Return who serves, or would if it were ready, besides *release*; those already taken out are not."""
        rollout = self.s.memory.rollout
        released = rollout.released if rollout else frozenset()
        home = {r.id for r in self.of(self.live)}
        return tuple(
            r
            for r in self.others(release)
            if r.state == "running"
            and not self.is_leaving(r)
            # Taken out in our memory but still in the table: a crash came before the publication. It is judged anew.
            and (self.is_routed(r) or (r.id in home and r.id not in released))
        )

    def strays(self, release: Release) -> tuple[Replica, ...]:
        """Return what is neither *release* nor outgoing: it may go at once."""
        staying = {r.id for r in self.outgoing(release)}
        return tuple(r for r in self.others(release) if r.id not in staying)

    def is_leaving(self, replica: Replica) -> bool:
        """Say whether its stop signal was sent."""
        return replica.id in self.s.memory.stopping

    def entry(self, replica: Replica) -> Upstream | None:
        """Return the replica's entry in the published table."""
        return _entry(self.s.world.routing.published, replica.id)

    def confirmed_entry(self, replica: Replica) -> Upstream | None:
        """Return the replica's entry in the confirmed table."""
        return _entry(self.s.world.routing.confirmed, replica.id)

    def is_routed(self, replica: Replica) -> bool:
        """Say whether the published table sends live requests to it."""
        entry = self.entry(replica)
        return entry is not None and entry.state == "ready" and entry.group == "live"

    def is_trusted(self, replica: Replica) -> bool:
        """Say whether the published table gives it requests of any kind: it has been ready."""
        entry = self.entry(replica)
        return entry is not None and entry.state == "ready"

    def is_ready(self, replica: Replica) -> bool:
        """Say whether it may take requests: running, and its probes passed.

        Without a verdict (ours was restarted just now) the table is believed.
        """
        if replica.state != "running" or self.is_leaving(replica):
            return False
        verdict = self.s.world.verdicts.get(replica.id)
        return self.is_trusted(replica) if verdict is None else verdict.ready

    def was_ready(self, replica: Replica) -> bool:
        """Say whether it has been ready at any time."""
        verdict = self.s.world.verdicts.get(replica.id)
        return self.is_trusted(replica) if verdict is None else verdict.ever_ready

    def ready(self, replicas: Iterable[Replica]) -> tuple[Replica, ...]:
        """Return those that are ready."""
        return tuple(r for r in replicas if self.is_ready(r))

    def routable(self, replicas: Iterable[Replica]) -> tuple[Replica, ...]:
        """Return the ready ones; where none is, those that were ready once and still accept connections.

        A probe that fails everywhere at once is more often the probe's trouble than the app's.
        """
        pool = tuple(replicas)
        ready = self.ready(pool)
        return ready or tuple(r for r in pool if self._accepts(r))

    def _accepts(self, replica: Replica) -> bool:
        verdict = self.s.world.verdicts.get(replica.id)
        running = replica.state == "running" and not self.is_leaving(replica)
        return running and verdict is not None and verdict.ever_ready and verdict.accepts

    def unready_for_s(self, replica: Replica) -> float:
        """Return for how long it has been unready, in seconds; 0 where no verdict says so."""
        verdict = self.s.world.verdicts.get(replica.id)
        if verdict is None or verdict.ready:
            return 0.0
        return max(0.0, self.s.now.steady - verdict.since)

    def muster(self, release: Release) -> Muster:
        """Count the release's slots."""
        wanted = range(1, release.spec.replicas + 1)
        keep: dict[int, Replica] = {}
        idle: dict[int, Replica] = {}
        broken: list[tuple[Replica, str]] = []
        surplus: list[Replica] = []
        for replica in self._best_first(self.of(release)):
            slot = replica.index
            is_on_its_way = replica.state == "running" and self.is_leaving(replica)
            if slot not in wanted or slot in keep or is_on_its_way or is_stillborn(replica):
                surplus.append(replica)
            elif self.can_start_again(replica):
                surplus.append(replica) if slot in idle else idle.setdefault(slot, replica)
            elif why := self.trouble(replica, release):
                broken.append((replica, why))
            else:
                keep[slot] = replica
        surplus += [r for slot, r in idle.items() if slot in keep]
        idle = {slot: r for slot, r in idle.items() if slot not in keep}
        return Muster(
            keep=tuple(keep[i] for i in sorted(keep)),
            missing=tuple(i for i in wanted if i not in keep),
            idle=idle,
            broken=tuple(broken),
            surplus=tuple(surplus),
        )

    def _best_first(self, replicas: Iterable[Replica]) -> list[Replica]:
        # A routed replica keeps its slot before a newcomer; the oldest before the rest.
        return sorted(replicas, key=lambda r: (r.index, not self.is_ready(r), r.created, r.id))

    def can_start_again(self, replica: Replica) -> bool:
        """Say whether it did not fail: never started, stopped by us, or stopped with the machine."""
        if replica.drift or replica.id in self.s.memory.tails:
            return False  # it was given up: its end is counted, and another takes its place
        if replica.state == "created":
            return not replica.error
        before_boot = 0 < replica.started < self._booted() - 1
        return replica.state == "exited" and (before_boot or self.is_leaving(replica))

    def _booted(self) -> float:
        """Return when the machine booted (wall seconds), by the clock as it was when something was noted since."""
        now = self.s.now
        noted = [moment for one in self.s.releases.values() for moment in (one.started, one.finished)]
        noted += [slot.last for slot in self.s.memory.slots.values()]
        # By today's clock alone, one that was set forward would make all that ran before look stopped by a reboot.
        return min(m.wall - m.steady for m in (now, *noted) if m is not None and m.boot == now.boot)

    def trouble(self, replica: Replica, release: Release) -> str:
        """Say why a replica has to be made anew; empty: it has not."""
        if replica.state == "paused":
            return "paused by something else"
        if replica.state != "running":
            return describe_exit(replica)
        if replica.drift:
            return f"changed by something else: {replica.drift}"
        if self._is_judged_here(replica) and self.unready_for_s(replica) > release.spec.deadline:
            return f"unready for more than {release.spec.deadline:g} s: {self.answer(replica)}"
        return ""

    def _is_judged_here(self, replica: Replica) -> bool:
        """Say whether no rollout has a limit of its own for it: there is none, or it goes to other containers."""
        live, target = self.live, self.target
        if self.s.memory.rollout is None or live is None or target is None:
            return self.s.memory.rollout is None
        return replica.digest == live.container_digest != target.container_digest

    def answer(self, replica: Replica) -> str:
        """Return the last answer of the replica's probe, in words."""
        verdict = self.s.world.verdicts.get(replica.id)
        return (verdict.answer if verdict else "") or "not probed yet"

    def slot(self, index: int) -> Slot:
        """Return what happened to one slot lately."""
        return self.s.memory.slots.get(index, Slot())

    def may_fill_in_s(self, index: int) -> float:
        """Return in how many seconds the slot may be filled again; 0: now."""
        slot = self.slot(index)
        if slot.last is None or slot.last.boot != self.s.now.boot:
            return 0.0
        return max(0.0, slot.last.steady + backoff_s(slot.exits) - self.s.now.steady)


def backoff_s(exits: int) -> float:
    """Return the wait before a slot is filled after so many exits: 0, 1, 2, 4 … 300 s."""
    return 0.0 if exits <= 1 else min(LONGEST_BACKOFF_S, 2.0 ** min(exits - 2, 20))


def is_stillborn(replica: Replica) -> bool:
    """Say whether it was created and could not be started."""
    return replica.state == "created" and bool(replica.error)


def describe_exit(replica: Replica) -> str:
    """Say how a replica ended, in words."""
    if replica.error:
        return f"could not start: {replica.error}"
    if replica.oom_killed:
        return "ran out of memory and was killed (raise resources.memory)"
    return f"exited with code {replica.exit_code if replica.exit_code is not None else '?'}"


def _entry(routes: object, replica: str) -> Upstream | None:
    upstreams: tuple[Upstream, ...] = getattr(routes, "upstreams", ())
    return next((u for u in upstreams if u.id == replica), None)
