"""
The host's folders that a container is to get, judged just before the engine takes each by its path.

The engine follows a path anew at every create and start, so what was fine at upload may lead elsewhere by then: a
container that can write a folder can put a link there. So each path is walked without following links, held open while
the engine works, and walked again; and no folder is given that lies in one which a running container can write, for
that one could change the path between our look and the engine's. What owns the machine, or is the service's own, is
never given.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from controller.engine.calls import READ_S
from controller.errors import Refused, Retry
from controller.spec.volumes import Volume

SOCKETS = ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock")
"""Whoever may open one of these owns the machine."""
_SOCKET = "the engine's socket"
LINKS_IN = (Path("/"), Path("/var"))
"""Where the system itself keeps links for old paths, such as /var/run; nothing of a container is there."""
LINKS = 8
_ENDED = frozenset({"exited", "dead", "removing"})
_LOOK = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC

Listed = Mapping[str, Any]
Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Bind:
    """A path of the host that a container gets."""

    source: str
    is_writable: bool = True


@dataclass(frozen=True, slots=True)
class Guarded:
    """A place that no container ever gets, whoever asks for it."""

    path: str
    what: str
    """Such as "the service's database"."""
    has_others_beside: bool = False
    """Files whose names begin with its own are guarded with it, such as database.db-wal."""


class Own(Protocol):
    """The service's settings, as far as they say where its own things are."""

    @property
    def state(self) -> Path: ...
    @property
    def db_path(self) -> Path: ...
    @property
    def socket(self) -> Path: ...
    @property
    def desired(self) -> Path: ...


def guarded_by(settings: Own) -> tuple[Guarded, ...]:
    """Return the service's own places: whoever writes there is the service, and whoever reads them has its keys."""
    return (
        Guarded(str(settings.state), "the service's state directory"),
        Guarded(str(settings.db_path), "the service's database", has_others_beside=True),
        Guarded(str(settings.socket), "the service's socket"),
        Guarded(str(settings.desired), "the watched directory"),
    )


@dataclass(frozen=True, slots=True)
class Walked:
    """Where a path leads."""

    path: Path
    """Without links; from the first missing part on as it was written."""
    chain: tuple[Identity, ...]
    """Device and inode of each part that is there, from / on."""

    @property
    def is_whole(self) -> bool:
        """Say whether all of it is there."""
        return len(self.chain) == len(self.path.parts)


class Binds:
    """Judges what containers bind; safe for several threads."""

    def __init__(self, engine: Callable[[], str] = lambda: "unix:///var/run/docker.sock") -> None:
        """*engine* tells where it is: folders of another machine cannot be looked at, and only their names count."""
        self._engine = engine
        self._lock = threading.Lock()
        self.guarded: tuple[Guarded, ...] = ()
        """Beside the engine's socket."""

    def refuse(self, source: str) -> None:
        """Raise Refused if *source* is never given to a container, as far as can be seen now."""
        with ExitStack() as held:
            self._refuse_guarded(self._walk(Bind(source), held))

    @contextmanager
    def judged(self, binds: Sequence[Bind]) -> Iterator[None]:
        """Hold *binds* while the block has the engine take them; Refused before it, or behind it if a path changed."""
        with ExitStack() as held:
            walked = [self._walk(bind, held) for bind in binds]
            for each in walked:
                self._refuse_guarded(each)
            yield
            for each, bind in zip(walked, binds, strict=True):
                now = self._walk(bind, held)
                if now.path != each.path or now.chain[: len(each.chain)] != each.chain:
                    raise Refused(f"volumes: {bind.source} was replaced while the engine took it")

    @contextmanager
    def judged_beside(self, binds: Sequence[Bind], others: Callable[[], Iterable[Listed]]) -> Iterator[None]:
        """Do as `judged`, and refuse what is nested in a bind of *others*, our containers, or the other way round.

        Raises Retry where another such block takes long.
        """
        if not binds:
            yield
            return
        # One at a time: of two that are nested in each other the second has to see the first.
        if not self._lock.acquire(timeout=READ_S):
            raise Retry("folders of the host are being looked at for another container; the engine is slow")
        try:
            with self.judged(binds):
                _refuse_nested(binds, others(), os.path.realpath if self._is_here() else _plain)
                yield
        finally:
            self._lock.release()

    def _walk(self, bind: Bind, held: ExitStack) -> Walked:
        return walk(bind.source, held) if self._is_here() else Walked(Path(_plain(bind.source)), ())

    def _is_here(self) -> bool:
        return self._engine().startswith("unix:")

    def _refuse_guarded(self, walked: Walked) -> None:
        own = (Guarded(self._engine().removeprefix("unix://"), _SOCKET), *self.guarded) if self._is_here() else ()
        for each in (*(Guarded(path, _SOCKET) for path in SOCKETS), *own):
            named = Path(os.path.abspath(each.path))  # noqa: PTH100 - resolve() would follow links
            if named.is_relative_to(walked.path) or _touches(walked, each):
                raise Refused(
                    f"volumes: {walked.path} would hand over {each.what} ({each.path}), which no container ever gets"
                )


def walk(source: str, held: ExitStack | None = None) -> Walked:
    """Follow *source* part by part and never through a link; the last part stays open until *held* ends."""
    path, links = Path(_plain(source)), 0
    with ExitStack() as stack:
        at, done, rest = _open("/", None, stack), Path("/"), list(path.parts[1:])
        chain = [_identity(at)]
        while rest:
            name = rest[0]
            try:
                found = _open(name, at, stack)
            except (FileNotFoundError, NotADirectoryError):
                return Walked(done.joinpath(*rest), tuple(chain))
            except PermissionError as error:
                raise Refused(f"volumes: {source}: the service may not look into {done}") from error
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise Refused(f"volumes: {source} cannot be looked at: {error.strerror}") from error
                found = -1
            if found < 0 or _is_link(found):
                links += 1
                path = _follow(source, done, rest, links)
                at, done, rest = _open("/", None, stack), Path("/"), list(path.parts[1:])
                chain = [_identity(at)]
                continue
            at, done, rest = found, done / name, rest[1:]
            chain.append(_identity(at))
        if held is not None:
            held.callback(os.close, os.dup(at))
        return Walked(done, tuple(chain))


def _follow(source: str, at: Path, rest: Sequence[str], links: int) -> Path:
    """Return the path behind a link of the system's own; any other is refused: somebody may have put it there."""
    link = at / rest[0]
    if at not in LINKS_IN or links > LINKS:
        raise Refused(
            f"volumes: {source}: {link} is a symbolic link, which is not followed; write the path without links"
        )
    return Path(_plain(str(at.joinpath(link.readlink(), *rest[1:]))))


def _plain(path: str) -> str:
    """Return *path* with one slash at its beginning: two have a meaning of their own and stay in os.path.normpath."""
    return os.path.normpath("/" + path.lstrip("/"))


def _open(name: str, at: int | None, stack: ExitStack) -> int:
    found = os.open(name, _LOOK, dir_fd=at)
    stack.callback(os.close, found)
    return found


def _identity(found: int) -> Identity:
    seen = os.fstat(found)
    return seen.st_dev, seen.st_ino


def _is_link(found: int) -> bool:
    return stat.S_ISLNK(os.fstat(found).st_mode)


def _is_or_holds(outer: Walked, inner: Walked) -> bool:
    """Say whether *outer* is *inner* or one of its parents, under whatever name it was mounted."""
    if inner.path.is_relative_to(outer.path):
        return True
    return outer.is_whole and outer.chain[-1] in inner.chain


def _touches(walked: Walked, guarded: Guarded) -> bool:
    try:
        place = walk(os.path.realpath(guarded.path))
    except Refused:
        return False  # we may not even look there
    is_beside = guarded.has_others_beside and walked.path.parent == place.path.parent
    return (
        _is_or_holds(walked, place)
        or _is_or_holds(place, walked)
        or (is_beside and walked.path.name.startswith(place.path.name))
    )


def _refuse_nested(binds: Sequence[Bind], others: Iterable[Listed], resolve: Callable[[str], str]) -> None:
    """Refuse a folder that somebody who runs can change the path of, and one in which that could happen to another."""
    theirs = [(_name(each), bind) for each in others if each.get("State") not in _ENDED for bind in _mounts(each)]
    for bind in binds:
        mine = Path(resolve(bind.source))
        for who, other in (*(("the same app", one) for one in binds), *theirs):
            place = Path(resolve(other.source))
            if place == mine:
                continue
            if other.is_writable and mine.is_relative_to(place):
                raise Refused(
                    f"volumes: {bind.source} lies in {place}, which {who} can write and so put a link in its path; "
                    "bind the outer one read-only, or folders beside each other"
                )
            if bind.is_writable and place.is_relative_to(mine):
                raise Refused(
                    f"volumes: {bind.source} holds {place}, which {who} binds, and could put a link in its path; "
                    "bind the outer one read-only, or folders beside each other"
                )


def _name(listed: Listed) -> str:
    return str((listed.get("Names") or [listed["Id"][:12]])[0]).lstrip("/")


def _mounts(listed: Listed) -> Iterator[Bind]:
    for each in listed.get("Mounts") or ():
        if each.get("Source") and each.get("Type") in ("bind", "volume"):
            yield Bind(str(each["Source"]), bool(each.get("RW")))


def binds_of_spec(volumes: Iterable[Volume]) -> tuple[Bind, ...]:
    """Return the paths of the host that a spec asks for."""
    return tuple(Bind(each.source, not each.read_only) for each in volumes if each.type == "bind")


def binds_of(seen: Mapping[str, Any]) -> tuple[Bind, ...]:
    """Return the paths of the host that a container was made with, but for the secret files that we laid."""
    laid = {each.get("Target") for each in (seen.get("HostConfig") or {}).get("Mounts") or ()}
    mounts = [each for each in seen.get("Mounts") or () if each.get("Type") == "bind"]
    return tuple(Bind(each["Source"], bool(each.get("RW"))) for each in mounts if each.get("Destination") not in laid)
