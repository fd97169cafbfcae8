"""One app as a worker runs it: its upstreams, who is picked, who waits, who leaves, and what may be retried."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from controller.proxy.budget import Budget
from controller.proxy.detour import Detour
from controller.proxy.doors import Door, Surroundings
from controller.proxy.limits import Limits
from controller.proxy.meter import Meter
from controller.proxy.pool import Pool
from controller.proxy.replies import AnswerReader
from controller.proxy.tallies import Tallies
from controller.proxy.turns import REQUEST, Turns
from controller.routing.access import Access, compile_policy
from controller.routing.choose import Draw, Shares, sticky_index, sticky_value
from controller.routing.table import AppRoutes, Group, Policy, Upstream

_NEAR = 8
"""An eighth of the limit in flight is near enough to it to ask the other workers each time."""
_DRAIN_S = 30.0
"""How long what is open on an upstream without a limit of its own may go on."""
_OPEN = Access(policy=Policy())


class Held(Protocol):
    """A request that waits for the next table."""

    held_bytes: int

    def go_on(self) -> None:
        """The hold is over: look at the table anew."""
        ...

    def has_moved(self) -> bool:
        """Say whether the table in force gives it to another app."""
        ...


@dataclass(slots=True)
class Shop:
    """What all apps of one worker share."""

    limits: Limits
    meter: Meter
    draw: Draw
    reader: AnswerReader
    around: Surroundings
    report: Callable[[dict[str, Any]], None]
    turns: Turns
    warm: set[Pool] = field(default_factory=set)
    """Upstreams with unused connections."""
    flying: set[App] = field(default_factory=set)
    """Apps with requests in flight here, or told so to the other workers."""
    tallies: Tallies | None = None
    ejections: set[App] = field(default_factory=set)
    """Apps that have set an upstream aside."""
    holding: set[App] = field(default_factory=set)
    """Apps for which requests wait."""


class App:
    """One app; it lives from the table that brings it to the end of what is open after it left."""

    def __init__(self, name: str, shop: Shop) -> None:
        self.name = name
        self.shop = shop
        self.routes = AppRoutes(app=name)
        self.door = Door(name, _OPEN, shop.around)
        self.detour: Detour | None = None
        """The way through the app's inspector; None: there is none."""
        self.in_flight = 0
        self.others = 0
        """Requests of this app in flight in other workers, as last heard."""
        self._row = -1
        self.budget = Budget(shop.limits)
        self.held: deque[Held] = deque()
        self.held_bytes = 0
        self._going = 0
        """How many at the head of the queue wait for nothing but their turn of the loop."""
        self._releasing = False
        self.marks: dict[str, int | str] = {}
        """What a cookie may say now, and what it stands for; empty where clients are not kept anywhere."""
        self._key = ""
        self._values: dict[str, str] = {}
        self._pools: dict[str, Pool] = {}
        self._usable: dict[Group, list[Pool]] = {"live": [], "preview": []}
        self._assets: list[Pool] = []
        self._by_release: dict[int, list[Pool]] = {}
        self._shares: Shares | None = None
        self._ejected = False

    # Tables.

    def take(self, routes: AppRoutes | None, version: int, key: str, now: float, steady: float) -> None:
        """
        Make *routes* the app's entry (None: the app is gone), and start what follows from it.

        An entry that cannot be served shuts the door, and the app answers 503. So does one that this fails for: then
        the exception comes out here.
        """
        routes = routes or AppRoutes(app=self.name)
        # Shut until the end is reached: whatever fails on the way, nobody gets in without the policy.
        door, self.door = self.door, self.door.shut(routes.fault or "its entry in the table could not be taken")
        before, self.routes = self.routes, routes
        if not routes.fault:
            door = self._make_door(door, routes.policy)
        self._place_detour()
        if self.routes.weights != before.weights:
            self._shares = Shares(self.routes.weights) if self.routes.weights else None
        wanted = {upstream.id: upstream for upstream in self.routes.upstreams}
        steps = self._place(wanted, now, steady)
        # First who may be picked, then who must go: what is asked anew must not meet a leaver again.
        self._sort()
        self._key = key
        self._values = {}
        self.marks = {}
        if self.routes.policy.sticky or self.routes.weights:
            self.marks = dict(sticky_index(key, {u.release for u in self.routes.upstreams}, wanted))
        for step in steps:
            step()
        if self.routes.mode == "hold" and any(pool.leaving for pool in self._pools.values()):
            self._end_streams()
        self._report_drained(version)
        if not routes.fault:
            self.door = door

    def _make_door(self, door: Door, policy: Policy) -> Door:
        if door.policy == policy and not door.fault:
            return door
        access = door.access if door.policy == policy else compile_policy(policy)
        return Door(self.name, access, self.shop.around)

    def _place_detour(self) -> None:
        if self.routes.policy.inspect == (self.detour is not None):
            return
        if self.detour is not None:
            self.detour.drop_idle()
            self.detour = None
        else:
            shop = self.shop
            self.detour = Detour(self.name, shop.limits, shop.reader, shop.warm, shop.turns, shop.report)

    def release_held(self) -> None:
        """Let what waits look at the table again, in order; those that must wait on stay in the queue."""
        going: list[Held] = []
        stay: list[Held] = []
        for held in self.held:
            (stay if self.routes.mode == "hold" and not held.has_moved() else going).append(held)
        self.held = deque((*going, *stay))
        self._going = len(going)
        if not self._releasing:
            self._release_some()

    def _release_some(self) -> None:
        """Let those at the head of the queue go on; of many, a few in each turn of the loop."""
        turns = self.shop.turns
        turns.begin()
        while self._going and turns.left > 0:
            turns.left -= REQUEST
            self._going -= 1
            held = self.held.popleft()
            self.held_bytes -= held.held_bytes
            held.go_on()
        self._releasing = self._going > 0
        if self._releasing:
            turns.wait(self._release_some)
        if not self.held:
            self.shop.holding.discard(self)

    def forget_held(self, held: Held) -> None:
        """Take a request that waits no longer out of the queue."""
        if held in self.held:
            place = self.held.index(held)
            del self.held[place]
            self._going -= place < self._going
            self.held_bytes -= held.held_bytes

    def _place(self, wanted: Mapping[str, Upstream], now: float, steady: float) -> list[Callable[[], None]]:
        """Give every upstream its state; return what has to be told to what is open on them."""
        steps: list[Callable[[], None]] = []
        for name, pool in list(self._pools.items()):
            upstream = wanted.get(name)
            if upstream is None or (pool.upstream.address, pool.upstream.port) != (upstream.address, upstream.port):
                steps.append(partial(self._vanish, pool, was_gone=pool.leaving and pool.upstream.state == "gone"))
                pool.leaving = True
                if upstream is not None:
                    del self._pools[name]
        for name, upstream in wanted.items():
            found = self._pools.get(name)
            if found is None:
                shop = self.shop
                found = self._pools[name] = Pool(upstream, shop.limits, shop.reader, shop.warm, shop.turns)
                found.leaving = upstream.state in ("draining", "gone")
            else:
                steps.append(partial(self._move, found, found.upstream, upstream, now, steady))
            found.upstream = upstream
            found.leaving = upstream.state in ("draining", "gone")
            found.ejected_until = 0.0
        return steps

    def _move(self, pool: Pool, before: Upstream, after: Upstream, now: float, steady: float) -> None:
        if after.state == "ready":
            if before.state != "ready":
                for item in list(pool.open):
                    item.stay()
            return
        if after.state == "gone":
            self._vanish(pool, was_gone=before.state == "gone")
            return
        if after.state == "draining":
            pool.drop_idle()
        if before.state == after.state and before.until == after.until:
            return
        ends = now + max(0.0, (after.until - steady) if after.until is not None else _DRAIN_S)
        count = len(pool.open)
        for index, item in enumerate(list(pool.open)):
            item.leave(now, ends, (index + 0.5) / count)

    def _vanish(self, pool: Pool, *, was_gone: bool) -> None:
        pool.drop_idle()
        if not was_gone:
            for item in list(pool.open):
                item.vanish()

    def _end_streams(self) -> None:
        for pool in self._pools.values():
            for item in list(pool.open):
                item.end_stream()

    def _sort(self) -> None:
        self._usable = {"live": [], "preview": []}
        self._assets = []
        self._by_release = {}
        self._ejected = False
        for pool in self._pools.values():
            upstream = pool.upstream
            if pool.leaving:
                continue
            if upstream.state == "assets":
                self._assets.append(pool)
            elif pool.ejected_until:
                self._ejected = True
            else:
                self._usable[upstream.group].append(pool)
                if upstream.group == "live":
                    self._by_release.setdefault(upstream.release, []).append(pool)

    # Leaving.

    def emptied(self, pool: Pool) -> None:
        """The last one open on a leaving upstream ended: tell the controller."""
        self._tell_drained(pool)

    def _report_drained(self, version: int) -> None:
        for pool in list(self._pools.values()):
            if pool.leaving and pool.reported != version:
                pool.reported = version
                if not pool.active:
                    self._tell_drained(pool)
            elif not pool.leaving:
                pool.reported = version

    def _tell_drained(self, pool: Pool) -> None:
        name = pool.upstream.id
        if self._pools.get(name) is not pool:
            return  # its id is another address by now, which may well be in use
        if pool.reported >= 0:
            self.shop.report({"kind": "drained", "app": self.name, "upstream": name, "version": pool.reported})
        if all(upstream.id != name for upstream in self.routes.upstreams):
            del self._pools[name]

    def releases(self) -> frozenset[int]:
        """Return the releases that it has upstreams of, leaving ones too."""
        return frozenset(pool.upstream.release for pool in self._pools.values())

    def is_over(self) -> bool:
        """Say whether nothing of it is left."""
        return not self._pools and not self.in_flight and not self.held

    # Counting.

    def admit(self) -> bool:
        """Count one more request in flight; False where that is one too many, over all workers."""
        most = self.routes.policy.max_in_flight
        if self.shop.tallies is not None and (self.in_flight + self.others) * _NEAR >= most:
            self.compare()
        if self.in_flight + self.others >= most:
            return False
        if not self.in_flight:
            self.shop.flying.add(self)
        self.in_flight += 1
        self.budget.requests += 1
        if self.shop.tallies is not None and (self.in_flight + self.others) * _NEAR >= most:
            self.compare()
        return True

    def compare(self) -> None:
        """
        Tell the other workers what is in flight here, and hear what is there.

        Far from the limit once in a tick is enough; near it every request does, since that is when it matters.
        """
        tallies = self.shop.tallies
        if tallies is not None:
            if self._row < 0:
                self._row = tallies.find(f"app {self.name}")
            if self._row >= 0:
                self.others = tallies.set(self._row, self.in_flight)
        if not self.in_flight:
            # Its row may be given away once nothing is open in it.
            self._row = -1
            self.others = 0
            self.shop.flying.discard(self)

    # Picking.

    def pick(self, group: Group, cookie: str = "", avoid: Pool | None = None) -> Pool | None:
        """Return the upstream for the next request; None where there is none to pick."""
        pools = self._usable[group]
        if len(pools) < 2:
            return pools[0] if pools else None
        release: int | None = None
        if cookie and self.marks:
            release_mark, _, upstream_mark = cookie.partition(".")
            pool = self._pools.get(str(self.marks.get(upstream_mark, "")))
            if pool in pools and pool is not avoid and self.routes.policy.sticky:
                return pool
            found = self.marks.get(release_mark)
            release = found if isinstance(found, int) else None
        if group == "live" and self._shares is not None and release not in self._shares.releases:
            release = self._shares.next()
        if release is not None and group == "live":
            pools = self._by_release.get(release) or pools
        if avoid is not None and len(pools) > 1:
            pools = [pool for pool in pools if pool is not avoid]
        return self.shop.draw.fewest(pools)

    def mark_of(self, pool: Pool) -> str:
        """Return what a client's cookie has to say so that it comes back to *pool*, or to its release."""
        upstream = pool.upstream
        value = self._values.get(upstream.id)
        if value is None:
            value = sticky_value(self._key, upstream.release, upstream.id if self.routes.policy.sticky else None)
            self._values[upstream.id] = value
        return value

    def pick_assets(self) -> Pool | None:
        """Return an upstream of the old release that is kept for its assets."""
        return self.shop.draw.fewest(self._assets) if self._assets else None

    def eject(self, pool: Pool, why: str, now: float) -> None:
        """Set a replica aside that refused, and say so; never the last one."""
        self.shop.report({"kind": "refused", "app": self.name, "upstream": pool.upstream.id, "why": why})
        pools = self._usable[pool.upstream.group]
        if pool.leaving or pool not in pools or len(pools) < 2:
            return
        pool.ejected_until = now + self.shop.limits.eject_s
        pool.drop_idle()
        self.shop.ejections.add(self)
        self.shop.meter.note(self.name, "ejection")
        self._sort()

    def restore(self, now: float) -> None:
        """Take back what was set aside long enough."""
        for pool in self._pools.values():
            if pool.ejected_until and pool.ejected_until <= now:
                pool.ejected_until = 0.0
        self._sort()
        if not self._ejected:
            self.shop.ejections.discard(self)
