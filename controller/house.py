"""Every part of a running controller, and how they know each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from controller.clock import SystemClock
from controller.engine.binds import Guarded, guarded_by
from controller.engine.docker import DockerEngine
from controller.engine.notice import Notice
from controller.errors import ControllerError
from controller.fixed import Fence, Keeper, is_fixed
from controller.fixed.own import API, api_entry, container_networks, own_ports
from controller.inspection import Inspection
from controller.intake.desired import Desired
from controller.loop.observe import Ports
from controller.loop.queue import Queue
from controller.loop.workers import Workers
from controller.orders import Orders
from controller.plan.patience import standing_still
from controller.plan.situation import Decision, Situation
from controller.ports import Ring
from controller.probe import Probes
from controller.publisher import Publisher
from controller.queries import ReadModel
from controller.settings import Settings
from controller.sources import Sources, open_sources
from controller.store.events import Level
from controller.store.store import Store
from controller.tls import Certificates
from controller.vault import Vault, open_vault

log = structlog.get_logger("controller")

CERTIFICATES = "certificates"
"""Folder of the state directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """Every part of a running controller."""

    store: Store
    engine: DockerEngine
    probes: Probes
    publisher: Publisher
    desired: Desired
    workers: Workers
    model: ReadModel
    orders: Orders
    vault: Vault
    sources: Sources
    inspection: Inspection
    certificates: Certificates
    fixed: Keeper


class Bell:
    """The bell that the edges are given before the queue behind it exists."""

    def __init__(self) -> None:
        self._ring: Ring = lambda app: None
        self._wake_fixed: Callable[[], None] = lambda: None

    def __call__(self, app: str) -> None:
        if is_fixed(app):
            self._wake_fixed()
        else:
            self._ring(app)

    def ring_with(self, ring: Ring, wake_fixed: Callable[[], None]) -> None:
        self._ring, self._wake_fixed = ring, wake_fixed


def build_house(settings: Settings, instance: str, clock: SystemClock, store: Store, ring: Ring) -> House:
    """Make every part and join them; nothing runs yet, and the engine is not asked."""
    vault = open_vault(instance, settings.state, os.environ)
    engine = DockerEngine(
        instance=instance,
        ring=ring,
        state=settings.state,
        clock=clock,
        network=settings.network,
        subnet=settings.subnet,
        upstream=settings.upstream,
        docker_host=settings.docker_host or "",
    )
    engine.on_reachable(Notice(partial(_noter(store, "engine"), "")))
    engine.guard((*guarded_by(settings), Guarded(str(vault.base), "the apps' secret files")))
    probes = Probes(ring, clock)
    publisher = Publisher(settings.state, ring=ring)
    certificates = Certificates(settings.state / CERTIFICATES, clock, publisher.set_certificates, publisher.set_covered)
    certificates.load()
    fixed = Keeper(store.fixed_routes, publisher, probes, clock, lambda: _fence(settings))
    if settings.api_host is not None:
        publisher.reserve({settings.api_host: API})
    fixed.built_in = tuple(entry for entry in [api_entry(settings)] if entry is not None)
    sources = open_sources(settings, clock, store, publisher, ring, fixed.claims)
    desired = sources.desired
    fixed.heirs = desired.heirs
    model = ReadModel()
    ports = Ports(
        engine=engine,
        prober=probes,
        publisher=publisher,
        history=store,
        directory=desired,
        clock=clock,
        secrets=store.secrets,
        files=vault,
        tls_hosts=certificates.names if settings.tls_port else frozenset,
        counters=publisher.counters,
        heirs=desired.heirs,
        watch=_watch(model, desired),
    )
    workers = Workers(Queue(), ports, _known(store, desired, publisher, engine))
    orders = Orders(store, desired, ring, clock)
    inspection = Inspection(settings.state, table=publisher.table, note=_noter(store, "inspector"))
    model.remark, model.fault = inspection.remark, publisher.fault
    publisher.on_fault = _fault_noter(store)
    return House(
        store=store,
        engine=engine,
        probes=probes,
        publisher=publisher,
        desired=desired,
        workers=workers,
        model=model,
        orders=orders,
        vault=vault,
        sources=sources,
        inspection=inspection,
        certificates=certificates,
        fixed=fixed,
    )


def _fence(settings: Settings) -> Fence:
    return Fence(own_ports=own_ports(settings), containers=container_networks(), allowed=tuple(settings.allow_targets))


def _noter(store: Store, kind: str) -> Callable[[str, str, str], None]:
    def note(app: str, level: str, text: str) -> None:
        known: Level = "error" if level == "error" else "warning" if level == "warning" else "info"
        try:
            store.add_event(app, kind, known, text)
        except ControllerError as error:
            log.warning("an event could not be stored", app=app, text=text, why=str(error))

    return note


def _fault_noter(store: Store) -> Callable[[str, str], None]:
    note = _noter(store, "proxy")

    def note_fault(app: str, why: str) -> None:
        if why:
            note(app, "error", f"the proxy cannot serve it and answers 503: {why}")
        else:
            note(app, "info", "the proxy serves it again")

    return note_fault


def _watch(model: ReadModel, desired: Desired) -> Any:
    def watch(situation: Situation, decision: Decision) -> None:
        model.put(situation.app, situation, decision)
        if standing_still(situation.memory) != standing_still(decision.memory):
            desired.wake()  # a claim may have become free, or be kept

    return watch


def _known(store: Store, desired: Desired, publisher: Publisher, engine: DockerEngine) -> Any:
    """Return what lists every app that anything is known of."""

    def known() -> Iterable[str]:
        try:
            running: Iterable[str] = engine.observe_all()
        except ControllerError:
            running = ()
        published = (app for app in publisher.apps() if not is_fixed(app))
        return {*store.apps(), *desired.standings(), *published, *running}

    return known
