"""A backup's archive taken apart: whatever is in it, files of ours come out, and it costs a bounded amount."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, cast

from controller.errors import Refused

MANIFEST, DATABASE, STATE = "manifest.json", "database.db", "state"
LARGEST_BYTES = 4 * 1024**3
"""More than this in one archive is not ours."""
PIECE_BYTES = 1024**2
HEADER_BYTES = 256 * 1024
"""What says of a file what it is called and how long it is; ours take less than a thousandth of it."""
MANIFEST_BYTES = 4 * 1024**2
MOST_FILES, DEEPEST, LONGEST_NAME = 5000, 16, 255


class _Bounded:
    """A tar's bytes, of which the reader of tars may take so many at a time: a header can claim to be gigabytes."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self.tell, self.seek = stream.tell, stream.seek
        self.left = HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        """Return up to *size* bytes. Raises tarfile's own error beyond what may be read now."""
        self.left -= size
        if size < 0 or self.left < 0 or self._stream.tell() > LARGEST_BYTES:
            raise tarfile.ReadError("more than a backup has")
        return self._stream.read(size)


def unpack_files(archive: Path, folder: Path) -> None:
    """Write the files of *archive* below *folder*. Refused where anything in it is not what a backup has."""
    try:
        with gzip.open(archive) as stream:
            bounded = _Bounded(stream)
            with tarfile.open(fileobj=cast(IO[bytes], bounded), mode="r:") as packed:
                for number, member in enumerate(packed):
                    _check_member(member, number)
                    bounded.left = member.size + HEADER_BYTES
                    _extract(packed, member, folder / member.name)
                    bounded.left = HEADER_BYTES
            while stream.read(PIECE_BYTES):  # only its end tells whether all of it is there
                if stream.tell() > LARGEST_BYTES:
                    raise Refused("found more after the backup's end than a backup has")
    except (tarfile.TarError, EOFError, ValueError, RecursionError, NotADirectoryError, FileExistsError) as error:
        raise Refused(f"not an Oton Pilot backup, or cut short: {error}") from error
    except OSError as error:
        if error.errno is None:  # gzip says it so where it is not gzip, or a checksum is wrong
            raise Refused(f"not an Oton Pilot backup, or damaged: {error}") from error
        raise


def _check_member(member: tarfile.TarInfo, number: int) -> None:
    """Raise Refused for what no backup of ours has, by its name, kind, size or place."""
    parts = PurePosixPath(member.name).parts
    is_ours = member.name in (MANIFEST, DATABASE) or (parts[:1] == (STATE,) and 1 < len(parts) <= DEEPEST)
    is_plain = ".." not in parts and all(len(part.encode("utf-8", "replace")) <= LONGEST_NAME for part in parts)
    largest = MANIFEST_BYTES if member.name == MANIFEST else LARGEST_BYTES
    is_file = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
    if not (is_ours and is_plain and is_file) or member.size > largest or number >= MOST_FILES:
        raise Refused(f'found "{member.name[:80]}" in the backup, which does not belong in one')


def _extract(packed: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = packed.extractfile(member)
    if source is None:
        raise Refused(f'"{member.name[:80]}" of the backup cannot be read')
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, member.mode & 0o700 | 0o600)
    with source, os.fdopen(descriptor, "wb") as out:
        shutil.copyfileobj(source, out)
        out.flush()
        os.fsync(descriptor)
