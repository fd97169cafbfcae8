"""Spec files as the CLI reads them: every problem at once, each document a piece of its own to upload."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.cli.edit import find_entries, set_environment, set_image
from controller.cli.show import say
from controller.cli.trouble import USAGE, Trouble
from controller.spec.envfile import parse_env_file
from controller.spec.model import AppSpec
from controller.spec.parse import Document, Parsed, parse_file

STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One app's document, ready to be uploaded."""

    app: str
    spec: AppSpec
    data: bytes
    digest: str


def read_pieces(files: Sequence[str], image: str | None = None) -> list[Piece]:
    """Return the documents of all *files*. Raises Trouble with every problem of every file."""
    read = [(file, *load(file)) for file in expand(files)]
    problems = [problem.text for _, _, parsed in read for problem in parsed.problems]
    if problems:
        raise Trouble(USAGE, problems[0], lines=problems[1:])
    for _, _, parsed in read:
        say(*(f"warning: {warning.text}" for warning in parsed.warnings))
    pieces = [
        cut_piece(file, data, document, alone=len(parsed.documents) == 1)
        for file, data, parsed in read
        for document in parsed.documents
    ]
    if not pieces:
        raise Trouble(USAGE, f"{', '.join(files)}: no document in it", hint="oton init NAME writes one to start from")
    refuse_doubles(pieces)
    return [with_image(pieces, image)] if image is not None else pieces


def expand(files: Sequence[str]) -> list[str]:
    """Return *files* with each directory replaced by the spec files in it."""
    found: list[str] = []
    for file in files:
        path = Path(file)
        if file != STDIN and path.is_dir():
            inside = sorted(str(one) for end in ("*.yaml", "*.yml") for one in path.rglob(end) if is_seen(one, path))
            if not inside:
                raise Trouble(USAGE, f"{file}: no *.yaml or *.yml in it")
            found += inside
        else:
            found.append(file)
    return found


def is_seen(path: Path, root: Path) -> bool:
    """Say whether the service would look at that file, too."""
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)


def load(file: str) -> tuple[bytes, Parsed]:
    """Return a file's bytes and what they say. Raises Trouble where it cannot be read."""
    folder = Path() if file == STDIN else Path(file).parent
    name = "stdin" if file == STDIN else file
    try:
        data = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        raise Trouble(USAGE, f"{file}: cannot be read: {error.strerror}") from error
    return data, parse_file(data, name, read_env=lambda env: (folder / env).read_bytes())


def cut_piece(file: str, data: bytes, document: Document, *, alone: bool) -> Piece:
    """Return one document as a piece of its own, with what its `env_file` holds."""
    if document.spec is None or document.name is None:
        raise Trouble(USAGE, f"{file}:{document.first_line}: this document cannot be read")
    text = data.decode("utf-8-sig")
    if not alone:
        lines = re.findall(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+", text)
        text = "".join(lines[document.first_line - 1 : document.last_line])
    return Piece(app=document.name, spec=document.spec, data=with_env_file(text, file).encode(), digest=document.digest)


def with_env_file(text: str, file: str) -> str:
    """Return the document with its env files' values in `environment`."""
    entry = find_entries(text).get("env_file")
    if entry is None:
        return text
    folder = Path() if file == STDIN else Path(file).parent
    names = [entry.node.value] if isinstance(entry.node.value, str) else [one.value for one in entry.node.value]
    values: dict[str, str | None] = {}
    for name in names:
        values |= parse_env_file((folder / name).read_text(encoding="utf-8"))
    return set_environment(text, values, file)


def with_image(pieces: Sequence[Piece], image: str) -> Piece:
    """Return the one piece with another image. Raises Trouble where there are several, or the image is none."""
    if len(pieces) != 1:
        raise Trouble(USAGE, f"--image needs exactly one app; found {', '.join(piece.app for piece in pieces)}")
    piece = pieces[0]
    text = set_image(piece.data.decode(), image, piece.app)
    parsed = parse_file(text.encode(), f"{piece.app} with --image {image}")
    if parsed.problems or not parsed.documents or parsed.documents[0].spec is None:
        lines = [problem.text for problem in parsed.problems] or ["cannot be read any more"]
        raise Trouble(USAGE, lines[0], lines=lines[1:])
    document = parsed.documents[0]
    return Piece(app=piece.app, spec=parsed.documents[0].spec, data=text.encode(), digest=document.digest)


def refuse_doubles(pieces: Sequence[Piece]) -> None:
    """Raise Trouble where an app is there twice."""
    names = [piece.app for piece in pieces]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Trouble(USAGE, f"{twice[0]}: the app is in these files twice", hint="keep one document for each app")
