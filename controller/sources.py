"""Where specs come from, put together: the watched directory, which may be a checkout of a Git repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from controller.checkout.follow import LOCAL as LOCAL_FOLDER
from controller.checkout.follow import Checkout, Listeners, folders_that_count
from controller.checkout.git import Git, Remote
from controller.checkout.hooks import FILE as WEBHOOK_FILE
from controller.checkout.hooks import Webhook
from controller.checkout.key import check_key
from controller.clock import Clock
from controller.intake.desired import Desired
from controller.intake.judge import Held
from controller.intake.looks import Ports
from controller.intake.origin import Origin
from controller.plan.claims import Claims, claims_in_force, claims_of, claims_of_routes
from controller.plan.patience import is_resting, is_stuck
from controller.plan.situation import Standing
from controller.ports import Ring
from controller.publisher import Publisher
from controller.settings import Settings
from controller.store.store import Store

KNOWN_HOSTS = "git_known_hosts"
"""In the state directory: the host keys of ssh remotes."""

Fixed = Callable[[], Mapping[str, Claims]]
"""What fixed routes claim, by the name that a person is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The watched directory, and what fills it."""

    desired: Desired
    checkout: Checkout | None = None
    webhook: Webhook | None = None


def open_sources(
    settings: Settings, clock: Clock, store: Store, publisher: Publisher, ring: Ring, fixed: Fixed
) -> Sources:
    """Return the directory of *settings*; with OTON_GIT_URL, also what keeps it at the remote's head."""
    if settings.git_url is None:
        ports = replace(_ports(store, publisher, ring, Origin()), fixed_claims=fixed, reserved=_reserved(settings))
        return Sources(desired=Desired(settings.desired, clock, ports))
    if settings.git_key is not None:
        check_key(settings.git_key)
    remote = Remote(url=settings.git_url, key=settings.git_key, known_hosts=settings.state / KNOWN_HOSTS)
    checkout = Checkout(
        settings.desired,
        Git(settings.desired, remote),
        branch=settings.git_branch,
        folder=settings.git_path.strip("/"),
        interval_s=settings.git_interval_s,
    )
    checkout.load()
    origin = Origin(
        only=tuple(folders_that_count(settings.git_path)),
        uploads=LOCAL_FOLDER,
        locked=checkout.locked,
        source=checkout.source,
        troubles=checkout.troubles,
    )
    ports = replace(_ports(store, publisher, ring, origin), fixed_claims=fixed, reserved=_reserved(settings))
    desired = Desired(settings.desired, clock, ports)
    checkout.listeners = Listeners(
        quiet=desired.quiet, moved=desired.wake, tell=lambda level, text: _tell(store, level, text)
    )
    webhook = Webhook(settings.state / WEBHOOK_FILE)
    webhook.ensure()
    return Sources(desired=desired, checkout=checkout, webhook=webhook)


def _reserved(settings: Settings) -> Mapping[str, str]:
    """Return the hosts that are the service's own with every path: whoever had one would be sent its tokens."""
    return {settings.api_host: "the service's own API"} if settings.api_host else {}


def _tell(store: Store, level: str, text: str) -> None:
    store.add_event("", "git", "warning" if level == "warning" else "info", text)


def _ports(store: Store, publisher: Publisher, ring: Ring, origin: Origin) -> Ports:
    return Ports(
        load_standings=store.load_standings,
        save_standing=store.save_standing,
        next_change=store.next_change,
        held=lambda standings: _survey(store, publisher, standings),
        ring=ring,
        origin=origin,
    )


def _survey(store: Store, publisher: Publisher, standings: Mapping[str, Standing]) -> Held:
    """Return what every app has by its releases and by the table, and who does not move by itself."""
    live: dict[str, Claims] = {}
    kept: dict[str, Claims] = {}
    resting: set[str] = set()
    table = publisher.table().apps
    for app in store.apps():
        memory, releases, _ = store.load(app)
        numbers = (memory.live, memory.rollout.release if memory.rollout else None)
        specs = [releases[n].spec for n in numbers if n is not None and n in releases]
        if specs:
            live[app] = frozenset().union(*(claims_of(spec) for spec in specs))
        standing, serving = standings.get(app) or Standing(app=app), releases.get(memory.live or 0)
        if is_resting(standing, memory, releases):
            resting.add(app)
        if serving is not None and app in table and is_stuck(standing, memory, releases):
            kept[app] = claims_in_force(table[app]) & claims_of(serving.spec)
    for app, routes in table.items():
        if ":" not in app:  # a fixed entry claims under its own name
            live.setdefault(app, claims_of_routes(routes))
    return Held(live=live, kept=kept, resting=frozenset(resting))
