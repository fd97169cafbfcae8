"""The controller, put together: the only place that knows all classes of its process."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import structlog

from controller import __version__
from controller.api.doctor import check_git, check_vault
from controller.api.parts import Parts
from controller.api.server import serve_api
from controller.api.sockets import open_sockets
from controller.archive import STAGED, Archive, Place, apply_staged
from controller.clock import SystemClock
from controller.control import Control
from controller.engine.docker import DockerEngine
from controller.errors import ControllerError, Refused
from controller.fixed import Fence, Keeper, is_fixed
from controller.fixed.own import api_entry, container_networks, own_ports
from controller.inspection import Inspection
from controller.intake.desired import Desired
from controller.lock import Lock
from controller.loop.chores import Chores
from controller.loop.handover import hand_out
from controller.loop.observe import Ports
from controller.loop.queue import Queue
from controller.loop.threads import Threads
from controller.loop.together import Together
from controller.loop.workers import Workers
from controller.orders import Orders
from controller.plan.foresee import preview
from controller.plan.situation import Decision, Release, Situation
from controller.ports import Ring
from controller.probe import Probes
from controller.publisher import Publisher
from controller.queries import ReadModel
from controller.settings import Settings, configure_logging, load_instance
from controller.sources import Sources, open_sources
from controller.store.events import Level
from controller.store.store import Store
from controller.tls import Certificates
from controller.vault import ONE_OFF, Vault, open_vault

log = structlog.get_logger("controller")

RECONCILE_WORKERS = 4
PULLERS = 3
JOIN_S = 5.0
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


def run_controller(settings: Settings, control_fd: int) -> int:
    """Run the controller until SIGTERM or its supervisor's end; return its exit code."""
    configure_logging(settings)
    threads = Threads()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threads.stop.set())
    try:
        lock = Lock.hold(settings.state, os.environ)
        _start(settings, control_fd, threads, lock)
    except Refused as error:
        print(f"oton: {error}", file=sys.stderr)  # noqa: T201 - the one line for the person who started us
        threads.stop.set()
        threads.join(JOIN_S)
        return 2
    while not threads.stop.wait(1.0):
        pass
    if late := threads.join(JOIN_S):
        log.warning("some threads did not end in time", threads=", ".join(late))
    return 1 if threads.died else 0


def _start(settings: Settings, control_fd: int, threads: Threads, lock: Lock) -> None:
    clock = SystemClock()
    _restore(settings)
    instance = load_instance(settings.state)
    store = Store(settings.db_path, clock, state=settings.state)
    threads.start("store", store.run)
    store.wait_open()
    bell = _Bell()
    house = _build(settings, instance, clock, store, bell)
    house.workers.may_act = lock.still_ours
    control = Control(control_fd, on_roster=house.publisher.set_roster, on_gone=threads.stop.set)
    house.publisher.kill = control.kill
    house.publisher.on_refused = house.probes.doubt
    house.publisher.on_limit = house.inspection.note_missed
    house.inspection.wish = control.inspect
    bell.ring_with(house.workers.ring, house.fixed.wake)
    listeners = open_sockets(settings.socket, settings.api)
    _start_edges(house, control, threads)
    chores = Chores(
        house.engine,
        store,
        house.workers,
        keep_images=settings.keep_images,
        sweep=lambda: _sweep(house.engine, house.vault),
    )
    threads.start("chores", chores.run)
    for number in range(RECONCILE_WORKERS):
        threads.start(f"reconcile-{number + 1}", house.workers.run)
    parts = _parts(house, settings, instance, clock, threads.stop.set)
    threads.start("api", lambda stop: serve_api(parts, listeners, stop))
    house.workers.ring("")
    control.ready()
    log.info("the controller acts", instance=instance, desired=str(settings.desired), version=__version__)


def _restore(settings: Settings) -> None:
    """Put a staged backup in place before anything is open; one that cannot be is set aside."""
    try:
        manifest = apply_staged(settings.state, settings.db_path)
    except (Refused, OSError) as error:
        failed = settings.state / f"{STAGED}-failed"
        shutil.rmtree(failed, ignore_errors=True)
        (settings.state / STAGED).replace(failed)
        log.error("a backup could not be restored", why=str(error), kept=str(failed))
    else:
        if manifest is not None:
            log.warning("a backup was restored", saved=manifest.get("saved"), apps=len(manifest.get("apps", ())))


def _start_edges(house: House, control: Control, threads: Threads) -> None:
    threads.start("control", control.run)
    threads.start("publisher", house.publisher.run)
    threads.start("inspection", house.inspection.run)
    threads.start("probes", house.probes.run)
    threads.start("fixed", house.fixed.run)
    threads.start("desired", house.desired.run)
    if house.sources.checkout is not None:
        threads.start("git", house.sources.checkout.run)
    threads.start("engine-events", house.engine.run_events)
    threads.start("engine-pulse", house.engine.run_pulse)
    for number in range(PULLERS):
        threads.start(f"puller-{number + 1}", house.engine.run_puller)


class _Bell:
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


def _build(settings: Settings, instance: str, clock: SystemClock, store: Store, ring: Ring) -> House:
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
    probes = Probes(ring, clock)
    publisher = Publisher(settings.state, ring=ring)
    certificates = Certificates(settings.state / CERTIFICATES, clock, publisher.set_certificates)
    certificates.load()
    fixed = Keeper(store.fixed_routes, publisher, probes, clock, lambda: _fence(settings))
    fixed.built_in = tuple(entry for entry in [api_entry(settings)] if entry is not None)
    sources = open_sources(settings, clock, store, publisher, ring, fixed.claims)
    desired = sources.desired
    model = ReadModel()
    together = Together(publisher, desired.moves_with, ring)
    ports = Ports(
        engine=engine,
        prober=probes,
        publisher=together,
        history=store,
        directory=desired,
        clock=clock,
        secrets=store.secrets,
        files=vault,
        tls_hosts=certificates.names if settings.tls_port else frozenset,
        counters=publisher.counters,
        begin=together.begin,
        watch=_watch(model, desired),
    )
    workers = Workers(Queue(), ports, _known(store, desired, publisher, engine))
    orders = Orders(store, desired, ring, clock)
    inspection = Inspection(settings.state, table=publisher.table, note=_noter(store))
    model.remark = inspection.remark
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


def _noter(store: Store) -> Callable[[str, str, str], None]:
    def note(app: str, level: str, text: str) -> None:
        known: Level = "error" if level == "error" else "warning" if level == "warning" else "info"
        try:
            store.add_event(app, "inspector", known, text)
        except ControllerError as error:
            log.warning("an event could not be stored", app=app, text=text, why=str(error))

    return note


def _watch(model: ReadModel, desired: Desired) -> Any:
    def watch(situation: Situation, decision: Decision) -> None:
        model.put(situation.app, situation, decision)
        before, after = situation.memory, decision.memory
        if (before.live, before.removed) != (after.live, after.removed):
            desired.wake()  # a claim may have become free

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


def _sweep(engine: DockerEngine, vault: Vault) -> None:
    """Let go of secret files that no container can need any more, whoever removed it."""
    there = [replica for replicas in engine.observe_all().values() for replica in replicas]
    vault.sweep({(one.app, ONE_OFF if one.kind == "run" else one.digest) for one in there})


def _parts(house: House, settings: Settings, instance: str, clock: SystemClock, end: Callable[[], None]) -> Parts:
    place = Place(state=settings.state, database=settings.db_path, instance=instance, version=__version__)
    return Parts(
        ledger=house.store,
        directory=house.desired,
        engine=house.engine,
        publisher=house.publisher,
        model=house.model,
        orders=house.orders,
        clock=clock,
        preview=preview,
        version=__version__,
        instance=instance,
        settings=settings,
        checks={
            "database": lambda: _check_database(house.store),
            "workers": lambda: "" if house.publisher.is_current() else "a worker has not confirmed the newest table",
        },
        secrets_of=lambda app, release: _hand_to_one_off(house, app, release),
        findings=lambda: (
            check_vault(house.vault),
            *check_git(house.sources.checkout, clock.now().wall),
            *house.certificates.findings(),
        ),
        source=house.sources.checkout,
        webhook=house.sources.webhook,
        inspection=house.inspection,
        certificates=house.certificates,
        fixed=house.fixed,
        archive=Archive(place, house.store, end),
    )


def _hand_to_one_off(house: House, app: str, release: Release) -> tuple[Mapping[str, str], Mapping[str, str]]:
    handed = hand_out(app, release, house.store.secrets, house.vault, f"{ONE_OFF}{token_hex(6)}")
    return handed.environment, handed.files


def _check_database(store: Store) -> str:
    try:
        store.check_writable()
    except ControllerError as error:
        return str(error)
    return ""
