"""From settings to a running supervisor: everything that can be refused is refused here, before anything changed."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

import structlog

from controller.errors import Refused
from controller.kernel import adopt_orphans, name_process, tighten_umask
from controller.knobs import ProxyUser
from controller.lock import Lock
from controller.proxy.tallies import memory_for
from controller.settings import Settings, configure_logging, load_instance
from controller.supervisor.notify import Notifier
from controller.supervisor.nursing import Inheritance
from controller.supervisor.programs import Programs
from controller.supervisor.sockets import open_public
from controller.supervisor.supervise import Supervisor
from controller.supervisor.walls import prepare_inspect


def run_supervisor(
    settings: Settings, programs: Programs | None = None, environ: MutableMapping[str, str] = os.environ
) -> int:
    """
    Run the service until it is told to stop; return its exit code.

    0: stopped as told. 2: it could not start, and one line on stderr says why.
    """
    tighten_umask()
    configure_logging(settings)
    notifier = Notifier(environ)
    try:
        load_instance(settings.state)
        folder = _prepare_folder(settings.state, settings.proxy_user)
        lock = Lock.take(settings.state)
        public = open_public(settings.bind, settings.port, settings.tls_port, environ)
    except Refused as error:
        sys.stderr.write(f"oton: {error}\n")
        return 2
    name_process("oton")
    adopt_orphans()
    _raise_file_limit()
    inheritance = Inheritance(settings=settings, public=public, shared=_make_shared(settings.workers), folder=folder)
    log = structlog.get_logger("supervisor")
    return Supervisor(inheritance, programs or Programs(), lock, notifier, log).run()


def _prepare_folder(state: Path, user: ProxyUser | None) -> int:
    """Make state/proxy, the only part of the state that workers see, and return it open."""
    place = state / "proxy"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if user is None:
            os.fchmod(fd, 0o700)
        else:
            # setgid: what the controller puts there belongs to the workers' group without a word.
            os.fchown(fd, -1, user.gid)
            os.fchmod(fd, 0o2750)
        prepare_inspect(fd, user)
    except OSError as error:
        raise Refused(f"OTON_STATE: {place} cannot be made: {error.strerror}") from error
    return fd


def _make_shared(workers: int) -> int:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("oton-shared", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, 4 * memory_for(workers))  # the rest is for rate limits; untouched pages cost nothing
    return fd


def _raise_file_limit() -> None:
    """Each public connection takes two descriptors in a worker; the usual soft limit of 1024 is for select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
