"""Writing into the watched directory so that nobody ever reads half a file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from controller.errors import ControllerError, Refused, Retry

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EINTR, errno.EBUSY, errno.ENFILE, errno.EMFILE, errno.ESTALE}


def save_over(path: Path, data: bytes) -> None:
    """Replace *path* by *data*, safely on the disk on return; owner and permissions stay."""
    with _as_ours(path):
        status = path.stat()
        temporary = _save_aside(path, data, status)
        with _removed_on_failure(temporary):
            temporary.replace(path)
        _flush_folder(path.parent)


def save_new(path: Path, data: bytes) -> bool:
    """Create *path* with *data*, safely on the disk on return; False if something of that name exists."""
    with _as_ours(path):
        temporary = _save_aside(path, data, None)
        with _removed_on_failure(temporary):
            try:
                # Unlike a rename, a link never takes the place of a file that somebody made meanwhile.
                os.link(temporary, path)
            except FileExistsError:
                temporary.unlink()
                return False
            temporary.unlink()
        _flush_folder(path.parent)
        return True


def make_folder(path: Path) -> None:
    """Make the folder *path*; one that is there is success."""
    with _as_ours(path):
        path.mkdir(exist_ok=True)


def remove(path: Path) -> None:
    """Remove *path*, safely on the disk on return; gone is success."""
    with _as_ours(path):
        path.unlink(missing_ok=True)
        _flush_folder(path.parent)


def _save_aside(path: Path, data: bytes, like: os.stat_result | None) -> Path:
    # Always the same name, so that what a crash leaves behind is gone with the next writing.
    temporary = path.with_name(f".{path.name}.oton.tmp")
    with _removed_on_failure(temporary):
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb") as stream:
            if like is not None:
                _dress(descriptor, like)
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
    return temporary


def _dress(descriptor: int, like: os.stat_result) -> None:
    # Only root may give files away; for others the file stays theirs, as with any editor.
    with suppress(PermissionError):
        os.fchown(descriptor, like.st_uid, like.st_gid)
    os.fchmod(descriptor, like.st_mode & 0o7777)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _removed_on_failure(temporary: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def _as_ours(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind: type[ControllerError] = Retry if error.errno in _FULL else Refused
        raise kind(f"{path}: cannot be written: {error.strerror or error}") from error
