"""Writing into the watched directory so that nobody ever reads half a file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from controller.errors import ControllerError, Refused, Retry

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EINTR, errno.EBUSY, errno.ENFILE, errno.EMFILE, errno.ESTALE}


def save_over(path: Path, data: bytes) -> None:
    """Replace *path* by *data*, safely on the disk on return; owner and permissions stay."""
    with _as_ours(path), _open_folder(path, follow=False) as folder:
        status = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{path}: is no file any more; nothing was written")
        with _saved_aside(path.name, data, status, folder) as temporary:
            os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


def save_new(path: Path, data: bytes, *, follow: bool = True) -> bool:
    """
    Create *path* with *data*, safely on the disk on return; False if something of that name exists.

    Its folder may be a link only with *follow*.
    """
    with _as_ours(path), _open_folder(path, follow=follow) as folder:
        try:
            with _saved_aside(path.name, data, None, folder) as temporary:
                # Unlike a rename, a link never takes the place of a file that somebody made meanwhile.
                os.link(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except FileExistsError:
            return False
        os.fsync(folder)
        return True


def make_folder(path: Path) -> None:
    """Make the folder *path*; one that is there is success, a link is Refused: what is written would land elsewhere."""
    with _as_ours(path):
        path.mkdir(exist_ok=True)
    if path.is_symlink():
        raise Refused(f"{path}: is a link, allowed: a folder; take the link out of the repository or directory")


def remove(path: Path) -> None:
    """Remove *path*, safely on the disk on return; gone is success."""
    with _as_ours(path), _open_folder(path, follow=True) as folder:
        with suppress(FileNotFoundError):
            os.unlink(path.name, dir_fd=folder)
        os.fsync(folder)


@contextmanager
def _open_folder(path: Path, *, follow: bool) -> Iterator[int]:
    """Yield the folder of *path*, open; a link in its place would have us write wherever its maker likes."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    folder = os.open(path.parent, flags)
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _saved_aside(name: str, data: bytes, like: os.stat_result | None, folder: int) -> Iterator[str]:
    """Yield the name of a file with *data*, which is gone afterwards unless it was moved into place."""
    # Always the same name, so that what a crash leaves behind is gone with the next writing.
    temporary = f".{name}.oton.tmp"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o644, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if like is not None:
                _dress(descriptor, like)
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        yield temporary
    finally:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)


def _dress(descriptor: int, like: os.stat_result) -> None:
    # Only root may give files away; for others the file stays theirs, as with any editor.
    with suppress(PermissionError):
        os.fchown(descriptor, like.st_uid, like.st_gid)
    os.fchmod(descriptor, like.st_mode & 0o7777)


@contextmanager
def _as_ours(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind: type[ControllerError] = Retry if error.errno in _FULL else Refused
        raise kind(f"{path}: cannot be written: {error.strerror or error}") from error
