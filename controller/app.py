"""The controller as a process: its threads, its start and its end."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from secrets import token_hex

import structlog

from controller import __version__
from controller.api.doctor import check_git, check_vault
from controller.api.parts import Parts
from controller.api.server import serve_api
from controller.api.sockets import open_sockets
from controller.archive import STAGED, Archive, Place, apply_staged
from controller.clock import SystemClock
from controller.control import Control, Roster
from controller.engine.docker import DockerEngine
from controller.errors import ControllerError, Refused
from controller.house import Bell, House, build_house
from controller.kernel import name_process, tighten_umask
from controller.lock import Lock
from controller.loop.chores import Chores
from controller.loop.handover import hand_out
from controller.loop.threads import Threads
from controller.plan.foresee import preview
from controller.plan.situation import Release
from controller.settings import Settings, configure_logging, load_instance
from controller.store.store import Store
from controller.vault import ONE_OFF, Vault

log = structlog.get_logger("controller")

RECONCILE_WORKERS = 4
PULLERS = 3
JOIN_S = 5.0


def run_controller(settings: Settings, control_fd: int) -> int:
    """Run the controller until SIGTERM or its supervisor's end; return its exit code."""
    name_process("oton-controller")
    tighten_umask()
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
        log.warning("some threads did not stop in time", threads=", ".join(late))
    return 1 if threads.died else 0


def _start(settings: Settings, control_fd: int, threads: Threads, lock: Lock) -> None:
    clock = SystemClock()
    _restore(settings)
    instance = load_instance(settings.state)
    store = Store(settings.db_path, clock, state=settings.state)
    threads.start("store", store.run)
    store.wait_open()
    bell = Bell()
    house = build_house(settings, instance, clock, store, bell)
    house.workers.may_act = lock.still_ours
    control = Control(control_fd, on_roster=lambda roster: _take_roster(house, roster), on_gone=threads.stop.set)
    house.publisher.kill = control.kill
    house.publisher.keep_certificates_at(control.keep)
    house.publisher.on_refused = house.probes.doubt
    house.publisher.on_limit = house.inspection.note_missed
    house.publisher.catch_up = control.catch_up
    house.inspection.wish = control.inspect
    house.inspection.kill = control.kill_inspector
    bell.ring_with(house.workers.ring, house.fixed.wake)
    listeners = open_sockets(settings.socket, settings.api, house.certificates.file_for)
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
    log.info("the controller is running", instance=instance, desired=str(settings.desired), version=__version__)


def _take_roster(house: House, roster: Roster) -> None:
    house.publisher.set_roster(roster.workers, roster.pids)
    house.inspection.set_roster(roster.inspectors)


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
