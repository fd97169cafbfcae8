"""What has to be done now and then, whatever happens: tidy the history, let old images and networks go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import structlog

from controller.errors import ControllerError
from controller.loop.workers import Workers
from controller.plan.earlier import releases_with_images
from controller.plan.situation import Memory, Order, Release

log = structlog.get_logger("chores")

EVERY_S = 60.0
PRUNE_EVERY = 60
"""Rounds between two prunings of the history: an hour."""


class Leftovers(Protocol):
    """The engine, as far as what stays there goes."""

    def reachable(self) -> bool: ...
    def retain_images(self, keep: Collection[str]) -> None: ...
    def retain_networks(self, keep: Collection[str]) -> None: ...


class Ledger(Protocol):
    """The history, as far as it is tidied."""

    def apps(self) -> Collection[str]: ...
    def load(self, app: str) -> tuple[Memory, Mapping[int, Release], tuple[Order, ...]]: ...
    def prune(self) -> object: ...


class Chores:
    """Runs every minute in a thread of its own."""

    def __init__(
        self,
        engine: Leftovers,
        ledger: Ledger,
        workers: Workers,
        *,
        keep_images: int,
        sweep: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine, self._ledger, self._workers = engine, ledger, workers
        self._keep_images = keep_images
        self._sweep = sweep

    def run(self, stop: threading.Event) -> None:
        """Do the chores until *stop*; one that fails is tried again in a minute."""
        rounds = 0
        while not stop.wait(EVERY_S):
            rounds += 1
            try:
                if self._engine.reachable():
                    self._sweep()
                    self._engine.retain_images(self.images_to_keep())
                    self._engine.retain_networks(self._ledger.apps())
                if rounds % PRUNE_EVERY == 0:
                    self._ledger.prune()
            except ControllerError as error:
                log.warning("a housekeeping task failed and will be retried", why=str(error))

    def images_to_keep(self) -> frozenset[str]:
        """Return the images of each app's last releases that were live, of a rollback's target, and of what is used."""
        kept: set[str] = set()
        for app in self._ledger.apps():
            memory, releases, _ = self._ledger.load(app)
            kept |= {releases[n].image_id for n in releases_with_images(releases, memory, self._keep_images)}
        return frozenset(kept - {""})
