"""Where an uploaded or deleted document belongs, and putting it there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.errors import Refused, Stale
from controller.intake.compose import remove_document, replace_document
from controller.intake.documents import names_in
from controller.intake.scan import Seen, printable
from controller.intake.write import remove, save_new, save_over
from controller.spec.parse import Document, parse_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """What became of an upload: it is safely in *file* and counts as *change*."""

    app: str
    file: str
    digest: str
    """Of the spec."""
    change: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """The folder that new files go to."""

    folder: Path
    may_be_link: bool = True
    """The watched directory itself may be one. What others put into it may not: it would lead us anywhere."""


@dataclass(frozen=True, slots=True)
class Written:
    """A file of the directory as we left it."""

    file: str
    digest: str
    """Of its bytes; empty: it was removed."""


def parse_upload(app: str, data: bytes) -> Document:
    """Return the one valid document in *data*; raises Refused with every problem, a line each."""
    name = f"{app}.yaml"
    parsed = parse_file(data, name)
    if parsed.problems:
        raise Refused("\n".join(problem.text for problem in parsed.problems))
    if len(parsed.documents) != 1:
        raise Refused(f"{name}: found {len(parsed.documents)} documents, allowed: exactly one")
    document = parsed.documents[0]
    if document.name != app or document.spec is None:
        raise Refused(
            f"{name}:{document.first_line}: name: found {document.name}, allowed: {app}, as it was uploaded to"
        )
    return document


def put_document(app: str, data: bytes, home: Seen | None, place: Place, tenants: Collection[str]) -> Written:
    """
    Put *data* into the file *home* that holds the app, or into a new one in *place*.

    *tenants* are the apps last found in *home*. Raises Stale if the file is no longer as it was seen.
    """
    if home is None:
        return _written(_create(app, data, place), data)
    current = _load_as_seen(home)
    documents = [document for document in _documents(home) if document.name == app]
    if _is_alone(app, home, tenants):
        whole = data
    elif len(documents) == 1:
        whole = replace_document(current, documents[0], data, home.file)
    else:
        raise _inseparable(app, home)
    if whole != current:
        save_over(Path(os.path.realpath(home.path)), whole)
    return Written(home.file, _digest(whole))


def take_documents(
    app: str, files: Mapping[str, Seen], home: str | None, tenants: Collection[str]
) -> Iterator[Written]:
    """Take every document of the app out of the directory; *home* is where it was found last."""
    for file, seen in sorted(files.items()):
        if app in names_in(seen) or (file == home and seen.digest and not seen.sound):
            yield _take(app, seen, tenants if file == home else ())


def _take(app: str, seen: Seen, tenants: Collection[str]) -> Written:
    current = _load_as_seen(seen)
    if _is_alone(app, seen, tenants):
        remove(seen.path)
        return Written(seen.file, "")
    documents = [document for document in _documents(seen) if document.name == app]
    if not documents:
        raise _inseparable(app, seen)
    whole = current
    for document in sorted(documents, key=lambda one: one.first_line, reverse=True):
        whole = remove_document(whole, document, seen.file)
    save_over(Path(os.path.realpath(seen.path)), whole)
    return Written(seen.file, _digest(whole))


def _is_alone(app: str, seen: Seen, tenants: Collection[str]) -> bool:
    """Say whether the whole file is the app's; of a broken one, what was found in it last tells, too."""
    documents = _documents(seen)
    return set(tenants) <= {app} and (len(documents) <= 1 or all(document.name == app for document in documents))


def _documents(seen: Seen) -> tuple[Document, ...]:
    return seen.parsed.documents if seen.parsed else ()


def _load_as_seen(seen: Seen) -> bytes:
    try:
        current = seen.path.read_bytes()
    except OSError as error:
        raise Stale(f"{seen.file}: cannot be read: {error.strerror or error}") from error
    if _digest(current) != seen.digest:
        raise Stale(f"{seen.file}: changed meanwhile")
    return current


def _create(app: str, data: bytes, place: Place) -> Path:
    root = place.folder
    if not root.is_dir():
        raise Refused(f"{printable(root)}: the watched directory is missing; make it or mount it first")
    for number in range(1, 1000):
        path = root / (f"{app}.yaml" if number == 1 else f"{app}-{number}.yaml")
        # A name with another ending would do as well, but two files that look alike mislead.
        if not os.path.lexists(path.with_suffix(".yml")) and save_new(path, data, follow=place.may_be_link):
            return path
    raise Refused(f"{printable(root)}: no free name for {app}.yaml")


def _written(path: Path, data: bytes) -> Written:
    return Written(printable(path), _digest(data))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _inseparable(app: str, seen: Seen) -> Refused:
    why = seen.problem or f"{seen.file} is broken and holds other apps too"
    return Refused(f"{why}; fix the file by hand, then {app} can be changed here")
