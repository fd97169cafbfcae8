"""
Reads a file of specs: every problem at once, each with its line.

One document that is broken does not hide the others, and whatever the bytes are, the answer is a `Parsed`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from controller.spec.advice import find_doubts
from controller.spec.availability import NOT_YET, find_unavailable
from controller.spec.digest import digest_spec
from controller.spec.envfile import merge_env_files
from controller.spec.faults import Fault
from controller.spec.model import NAME_PATTERN, STORED, AppSpec, find_faults
from controller.spec.problems import Problem, render_field
from controller.spec.split import Chunk, split_documents
from controller.spec.tree import Fields, Flaw, Node, UnreadableError, compose, to_value
from controller.spec.wording import Say, describe, say_fault, saying_error

LARGEST_BYTES = 1024 * 1024
MOST_DOCUMENTS = 500
"""Documents of one file; each costs about as much as a hundred values, however short it is."""
MOST_VALUES = 100_000
"""Values of all documents of one file together, aliases counted in full; of one document see `tree.MOST_NODES`."""
MOST_TOLD = 100
"""Problems that are told of one file, but for one of each further document; the rest is counted."""
ReadEnv = Callable[[str], bytes]
"""Reads the file that `env_file` names; raises OSError."""

_NAME = re.compile(NAME_PATTERN, re.ASCII)
# What is possessive here takes spaces once: a line of a million of them would be tried a million times.
_NAME_LINE = re.compile(
    r"""^(?:--- ++)?\{?+ *+["']?name["']? *+: *["']?([a-z][a-z0-9-]{0,39})["']?(?=[ \t,}\r\n]|$)""",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a file, good or not."""

    name: str | None
    """The app, as well as it can be told: also from a document that is broken elsewhere."""
    spec: AppSpec | None
    """None where there is a problem."""
    digest: str = ""
    """Of the spec; empty where there is none."""
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    first_line: int = 1
    """Its `---` (or the file's first line): where a replacement begins."""
    last_line: int = 1
    """The line before the next `---`, or the file's last: where a replacement ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What a file holds."""

    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()
    """Those of the file as a whole and of all its documents, by line."""
    is_bounded: bool = True
    """False: it is beyond what is read of one file, and nothing is known of what it holds."""

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Return the warnings of all documents."""
        return tuple(warning for document in self.documents for warning in document.warnings)

    @property
    def unowned(self) -> tuple[Problem, ...]:
        """Return the problems whose app cannot be told."""
        owned = {id(problem) for document in self.documents if document.name for problem in document.problems}
        return tuple(problem for problem in self.problems if id(problem) not in owned)


def parse_file(data: bytes, file: str, *, read_env: ReadEnv | None = None, not_yet: frozenset[str] = NOT_YET) -> Parsed:
    """Return everything that *data* says, and everything that is wrong with it; never raises.

    *file* is the name that problems carry. With *read_env* (the CLI), `env_file` is read and merged below
    `environment`; without it (the watched directory), `env_file` is a problem.
    """
    if len(data) > LARGEST_BYTES:
        return _refuse(file, 1, f"{len(data)} bytes", "at most 1 MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = "UTF-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else f"the byte 0x{data[error.start]:02X}"
        return _refuse(file, data.count(b"\n", 0, error.start) + 1, found, "UTF-8")
    chunks = split_documents(text)
    if len(chunks) > MOST_DOCUMENTS:
        line = chunks[MOST_DOCUMENTS].first_line
        return _refuse_beyond(file, line, f"{len(chunks)} documents", f"at most {MOST_DOCUMENTS} in one file")
    reader = _Reader(file, read_env, not_yet)
    documents = []
    for chunk in chunks:
        documents.append(reader.document(chunk))
        if reader.values > MOST_VALUES:
            allowed = f"at most {MOST_VALUES} in one file, aliases counted in full"
            return _refuse_beyond(file, chunk.first_line, f"more than {MOST_VALUES} values", allowed)
    if not documents:
        return _refuse(file, 1, "no document", "at least one app, with `name` and `image`")
    documents = _refuse_repeated(file, documents)
    problems = tuple(problem for document in documents for problem in document.problems)
    return Parsed(documents=tuple(documents), problems=problems)


def _refuse(file: str, line: int, found: str, allowed: str) -> Parsed:
    return Parsed(problems=(Problem(file=file, line=line, found=found, allowed=allowed),))


def _refuse_beyond(file: str, line: int, found: str, allowed: str) -> Parsed:
    return replace(_refuse(file, line, found, allowed), is_bounded=False)


def _refuse_repeated(file: str, documents: Sequence[Document]) -> list[Document]:
    """Refuse an app's second document in one file; its first one stands."""
    seen: dict[str, int] = {}
    kept = []
    for document in documents:
        name = document.name
        if name is not None and name in seen:
            message = f"{name} is in this file already, on line {seen[name]}; one document per app"
            problem = Problem(file=file, line=document.first_line, field="name", message=message)
            kept.append(replace(document, spec=None, digest="", problems=(*document.problems, problem)))
            continue
        if name is not None:
            seen[name] = document.first_line
        kept.append(document)
    return kept


@dataclass(slots=True)
class _Reader:
    """Reads the documents of one file, and counts what they hold and what was told of them."""

    file: str
    read_env: ReadEnv | None
    not_yet: frozenset[str]
    values: int = 0
    told: int = 0

    def document(self, chunk: Chunk) -> Document:
        try:
            root, flaws = compose(chunk.text, chunk.first_line)
        except UnreadableError as error:
            flaw = error.flaw
            # Where something is missing at the end, libyaml points behind the last line.
            line = min(flaw.line, chunk.last_line)
            problem = Problem(file=self.file, line=line, field=render_field(flaw.at), message=flaw.message)
            return self._broken(chunk, _guess_name(chunk.text), [problem])
        self.values += root.size if root is not None else 0
        problems: list[Say] = [partial(self._say_flaw, flaw) for flaw in flaws]
        if not isinstance(root, Fields):
            problems.append(lambda: self._say_shapeless(chunk, root))
            return self._broken(chunk, None, self._tell(chunk, problems))
        return self._validated(chunk, root, _read_fields(root), problems)

    def _tell(self, chunk: Chunk, problems: Sequence[Say]) -> list[Problem]:
        """Put the problems into words, as many as may be told; there is always one where there is any."""
        room = max(1, MOST_TOLD - self.told)
        told = [say() for say in problems[:room]]
        self.told += len(told)
        if len(problems) > room:
            more = f"and {len(problems) - room} more problems in this document"
            told.append(Problem(file=self.file, line=chunk.last_line, message=more))
        return told

    def _say_flaw(self, flaw: Flaw) -> Problem:
        return Problem(file=self.file, line=flaw.line, field=render_field(flaw.at), message=flaw.message)

    def _say_shapeless(self, chunk: Chunk, root: Node | None) -> Problem:
        found = "a list" if root is not None and not hasattr(root, "text") else describe(root)
        line = root.line if root is not None else chunk.first_line
        return Problem(file=self.file, line=line, found=found, allowed="a mapping with `name` and `image`")

    def _broken(self, chunk: Chunk, name: str | None, problems: Sequence[Problem]) -> Document:
        return Document(
            name=name,
            spec=None,
            problems=tuple(sorted(problems, key=lambda problem: problem.line)),
            first_line=chunk.first_line,
            last_line=chunk.last_line,
        )

    def _validated(self, chunk: Chunk, root: Fields, values: dict[str, Any], problems: list[Say]) -> Document:
        values, faults = merge_env_files(values, self.read_env)
        problems += self._saying(root, faults)
        spec, found = self._validate(root, values)
        problems += found
        name = values.get("name")
        told = name if isinstance(name, str) and _NAME.fullmatch(name) else None
        if spec is None or problems:
            return self._broken(chunk, told, self._tell(chunk, problems))
        return Document(
            name=spec.name,
            spec=spec,
            digest=digest_spec(spec),
            warnings=tuple(self._tell(chunk, self._saying(root, find_doubts(spec)))),
            first_line=chunk.first_line,
            last_line=chunk.last_line,
        )

    def _saying(self, root: Node, faults: Iterable[Fault]) -> list[Say]:
        return [partial(say_fault, self.file, root, (), fault) for fault in faults]

    def _validate(self, root: Node, values: dict[str, Any]) -> tuple[AppSpec | None, list[Say]]:
        try:
            spec = AppSpec.model_validate(values)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
            problems = [say for detail in details for say in saying_error(self.file, root, detail)]
            broken = frozenset(str(detail["loc"][0]) for detail in details if detail["loc"])
            return None, problems + (self._ask_the_rest(root, values, broken) if broken else [])
        return spec, self._saying(root, self._missing(spec))

    def _ask_the_rest(self, root: Node, values: dict[str, Any], broken: frozenset[str]) -> list[Say]:
        """Ask the rules between the fields that are good, so that they need no second attempt to show."""
        good = {key: value for key, value in values.items() if key in AppSpec.model_fields and key not in broken}
        spec = AppSpec.model_validate({"name": "x", "image": "x", **good}, context=STORED)
        return self._saying(root, [*find_faults(spec, broken), *self._missing(spec)])

    def _missing(self, spec: AppSpec) -> list[Fault]:
        places = find_unavailable(spec, self.not_yet)
        return [Fault(at=place, message="not available yet in this version") for place in places]


def _read_fields(root: Fields) -> dict[str, Any]:
    """Return the document's fields; `x-…` is ignored, and a key whose lines are all commented out is not set."""
    values = {key: to_value(node) for key, (_, node) in root.nodes.items() if not key.startswith("x-")}
    return {key: value for key, value in values.items() if value is not None or key not in _OPTIONAL}


_OPTIONAL = frozenset(name for name, info in AppSpec.model_fields.items() if not info.is_required())


def _guess_name(text: str) -> str | None:
    """Return the app that a document which is no YAML seems to be about."""
    match = _NAME_LINE.search(text)
    return match[1] if match else None
