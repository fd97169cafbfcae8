"""
The whole of what a decision may depend on, and what it may answer with.

Every field is a value. What cannot be seen from outside (pins, numbers, moments) is in `Memory` and
`Release`, which the store keeps as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from controller.clock import Instant
from controller.plan.claims import Claim
from controller.plan.operations import Operation
from controller.spec.model import AppSpec
from controller.world.model import World

Phase = Literal["preparing", "starting", "waiting", "switching", "draining", "baking", "live"]
Outcome = Literal["rolling_out", "live", "superseded", "failed", "rolled_back"]
Kind = Literal["apply", "rollback", "undo", "restart"]
Verb = Literal[
    "apply",
    "rollback",
    "unpin",
    "promote",
    "abort",
    "retry",
    "restart",
    "suspend",
    "resume",
    "maintenance",
    "delete",
]
Result = Literal["release", "done", "unchanged", "conflict", "refused", "missing", "failed", "waiting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Spec plus image id under a number; only outcome and times change once it has an image id."""

    number: int
    spec: AppSpec
    digest: str
    """Of the whole spec."""
    image_id: str = ""
    """Empty until resolved."""
    image_healthcheck: bool = False
    container_digest: str = ""
    """Of the container part, image id, secret versions and restart number."""
    secret_versions: tuple[tuple[str, int], ...] = ()
    restarts: int = 0
    """Number of the restart release whose containers it shares; part of the container digest."""
    kind: Kind = "apply"
    by: str = ""
    reason: str = ""
    outcome: Outcome = "rolling_out"
    was_live: bool = False
    message: str = ""
    """Why it failed or was rolled back, in words for a person, log lines included."""
    started: Instant | None = None
    finished: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The app on its way to a release."""

    release: int
    previous: int | None = None
    """What served when it began."""
    kind: Kind = "apply"
    phase: Phase = "preparing"
    step: int = 0
    """Wave (rolling) or step (canary), from 1; 0: not in waves."""
    steps: int = 0
    started: Instant | None = None
    since: Instant | None = None
    """When the phase (or its step) began."""
    before_done: bool = False
    switched: Instant | None = None
    """When the table that serves the new release was confirmed."""
    drain_until: Instant | None = None
    ready_since: Instant | None = None
    """blue_green: since when all of green has been ready."""
    promoted: bool = False
    failing: str = ""
    """Not empty: it is being undone, for this reason."""
    outcome: Outcome = "failed"
    """What it becomes once undone: failed, or rolled_back (abort, broken bake or canary limit)."""
    waits_for: str = ""
    """What it waits for, in words ("1 of 2 replicas ready"); exactly "promotion" where a person must act."""
    released: frozenset[str] = frozenset()
    """Replica ids taken out of traffic for good in this rollout."""
    deadlines: Mapping[int, Instant] = field(default_factory=dict)
    """Slot -> when the replica's deadline ends; 0 stands for the `before` command."""
    exits: int = 0
    """Exits and replacements counted up to the switch, or up to the turn back; what follows is compared with it."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Replica id -> times unready at the switch; bake compares."""
    extended: bool = False
    """canary: this step's hold was extended once for want of requests."""
    data: Mapping[str, str] = field(default_factory=dict)
    """What a strategy alone has to remember."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """An old release kept running after a blue/green switch."""

    release: int
    until: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A rollback that sticks: *release* serves until the document's digest differs from *digest*."""

    release: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What happened to one replica's place lately, for backoff and for the failure budget."""

    exits: int = 0
    """Exits, or replacements for being unready, since the last quiet ten minutes."""
    last: Instant | None = None
    exit_code: int | None = None
    reason: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What an app's passes remember; the store keeps it as one document."""

    last_release: int = 0
    """The counter; it survives deletion."""
    live: int | None = None
    rollout: Rollout | None = None
    warm: Warm | None = None
    pin: Pin | None = None
    failed: int | None = None
    """The release that failed last and for which the file still asks."""
    held: str = ""
    """Why we wait for `retry` although the file asks for something else (law 7); empty: we do not."""
    suspended: bool = False
    maintenance: str | None = None
    """The message, while in maintenance."""
    stopping: Mapping[str, Instant] = field(default_factory=dict)
    """Replica id -> when its stop signal was sent."""
    slots: Mapping[int, Slot] = field(default_factory=dict)
    tails: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Replica id -> its kept last lines; dropped once the container is gone and nothing needs them."""
    drains: Mapping[str, Instant] = field(default_factory=dict)
    """Upstream id -> when its drain limit ends."""
    checking: int | None = None
    """The apply order for which the image is resolved again."""
    change: int = 0
    """The greatest change number of this app's orders and files that was looked at."""
    removed: bool = False
    """The app is gone or being removed; its history stays."""
    frozen: Instant | None = None
    """Since when nothing may move (engine away, suspended); that time does not count for any limit."""

    @property
    def exits(self) -> int:
        """Exits and replacements of all slots together."""
        return sum(slot.exits for slot in self.slots.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a person asked for; it stays open until a decision answers it."""

    id: int
    """From the one counter of changes; only grows."""
    app: str
    verb: Verb
    by: str = ""
    at: Instant | None = None
    to: int | None = None
    """rollback: the release asked for."""
    on: bool = False
    """maintenance: on or off."""
    message: str = ""
    digest: str = ""
    """apply: digest of the spec that was uploaded. Else, where what it brings was judged: its digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of an order; with result `release` the follower goes on with that release.

    With a text beside it the order was to take that release back, and its undoing is what was asked for.
    """

    order: int
    result: Result
    release: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The spec in force for an app, as its file (or its last readable state) says."""

    spec: AppSpec
    digest: str
    file: str = ""
    by: str = ""
    why: str = ""
    """What its source says of it: a commit's author and subject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How an app stands in the watched directory."""

    app: str
    wanted: Wanted | None = None
    """None: no good spec was ever seen, or the app is to be removed."""
    gone: bool = False
    """The removal rules have run their course: take the app down."""
    held: str = ""
    """Gone, but removal waits for a person; why."""
    invalid: str = ""
    """The newest problem: `file:line: field: …`, or the owner of a claim."""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Heir:
    """The app that takes a claim over once it is ready."""

    app: str
    is_stuck: bool = False
    """It is at rest beside what its file asks: without a person it does not get ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything one decision may depend on."""

    app: str
    standing: Standing
    memory: Memory
    world: World
    now: Instant
    releases: Mapping[int, Release] = field(default_factory=dict)
    """The last fifty, and whatever memory names."""
    orders: tuple[Order, ...] = ()
    """Open ones, oldest first."""
    tls_hosts: frozenset[str] = frozenset()
    """Hosts with a certificate while TLS is served; decides `https: auto` for probes."""
    foreign: frozenset[Claim] = frozenset()
    """What the app's releases claim and another has in the table."""
    heirs: Mapping[Claim, Heir] = field(default_factory=dict)
    """Who asks for what the app has in the table, by spec in force or as soon as it may."""


@dataclass(frozen=True, slots=True)
class Note:
    """One line for the event log: a choice made, or why nothing was done."""

    text: str
    level: Literal["info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now, what is known now, and when to look again even if nothing happens."""

    memory: Memory
    operations: tuple[Operation, ...] = ()
    releases: tuple[Release, ...] = ()
    """New or changed ones."""
    answers: tuple[Answer, ...] = ()
    notes: tuple[Note, ...] = ()
    look_again_s: float | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """How one operation of a decision ended."""

    operation: Operation
    state: Literal["done", "failed", "not_tried"]
    text: str = ""
    """failed: why; done: what came out, for a person."""
    lines: tuple[str, ...] = ()
    """KeepLogs: the lines."""
    wait: bool = True
    """failed: the same pass may succeed later (Retry, Stale); False: Refused."""
