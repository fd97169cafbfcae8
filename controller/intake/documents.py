"""
Which document speaks for which app, once it is known what is in the files.

Knows nothing of the disk or of claims; values in, values out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from controller.intake.scan import FileProblem, Seen
from controller.spec.parse import Document
from controller.spec.problems import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """The document that speaks for an app; without one, its file is there and cannot tell."""

    file: str
    document: Document | None = None
    problem: str = ""
    """What is wrong with the app's place in the directory, file and line in front."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """All apps that the directory speaks of, and what belongs to none."""

    speakers: Mapping[str, Speaker] = field(default_factory=dict)
    """An app that is not here is absent."""
    problems: tuple[FileProblem, ...] = ()


def call_roll(
    files: Mapping[str, Seen],
    homes: Mapping[str, str],
    *,
    unclear: Collection[str] = (),
    fading: Collection[str] = (),
    blind: Collection[str] = (),
) -> Roll:
    """
    Return who speaks for each app.

    *homes* tells where each app was found last; the one that has an app keeps it. Files in *unclear* and all
    below *blind* folders may still hold what they held; those in *fading* are leaving.
    """
    claims = _candidates(files)
    silent = {
        app: problem
        for app, home in homes.items()
        if (problem := _silence(app, home, files, unclear, blind)) is not None
        and not (app in claims and home in files and files[home].blank)
    }
    speakers = {
        app: _choose(app, claims.get(app, ()), homes.get(app), silent.get(app), fading)
        for app in sorted({*claims, *silent})
    }
    told = {homes[app] for app in silent}
    return Roll(speakers=speakers, problems=tuple(_loose_problems(files, told)))


def names_in(seen: Seen) -> tuple[str, ...]:
    """Return the apps whose documents the file has, in order, as often as they stand there."""
    documents = seen.parsed.documents if seen.parsed else ()
    return tuple(document.name for document in documents if document.name)


def _first_problem(seen: Seen) -> FileProblem | None:
    """Return the first thing that is wrong with the file."""
    problems = seen.parsed.problems if seen.parsed else ()
    return _as_row(seen, problems)


def _unowned_problem(seen: Seen) -> FileProblem | None:
    """Return the first thing that is wrong with the file and belongs to no app."""
    return _as_row(seen, seen.parsed.unowned if seen.parsed else ())


def _as_row(seen: Seen, problems: tuple[Problem, ...]) -> FileProblem | None:
    if seen.parsed is None:
        return FileProblem(seen.file, 1, seen.problem)
    if not problems:
        return None
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return FileProblem(seen.file, problems[0].line, problems[0].text + more)


def _candidates(files: Mapping[str, Seen]) -> Mapping[str, tuple[tuple[str, Document], ...]]:
    found: dict[str, list[tuple[str, Document]]] = {}
    for file in sorted(files):
        parsed = files[file].parsed
        for document in parsed.documents if parsed else ():
            if document.name:
                found.setdefault(document.name, []).append((file, document))
    return {app: tuple(places) for app, places in found.items()}


def _silence(
    app: str, home: str, files: Mapping[str, Seen], unclear: Collection[str], blind: Collection[str]
) -> str | None:
    """Return why *home* may hold *app* although it does not say so ("": being written); None: it does not hold it."""
    seen = files.get(home)
    if seen is None:
        if home in unclear:
            return ""
        folder = next((folder for folder in blind if home.startswith(folder + "/")), None)
        return f"{home}: cannot be read: the folder {folder} cannot be read" if folder else None
    if app in names_in(seen):
        return None
    # An invalid file leaves all its apps in force: which of them a broken document is cannot be told for sure.
    problem = _first_problem(seen)
    return problem.text if problem else None


def _choose(
    app: str,
    places: tuple[tuple[str, Document], ...],
    home: str | None,
    silence: str | None,
    fading: Collection[str],
) -> Speaker:
    if silence is not None and home is not None:
        return Speaker(file=home, problem=silence)
    at_home = [place for place in places if place[0] == home]
    file, document = (at_home or places)[0]
    others = [place for place in places if place[1] is not document]
    problem = render_problems(document)
    if others and file not in fading:
        problem = problem or _render_double(app, file, document, others[0])
    return Speaker(file=file, document=document, problem=problem)


def render_problems(document: Document) -> str:
    """Return the document's first problem and how many there are beside it; "" if there is none."""
    more = len(document.problems) - 1
    return (document.problems[0].text if more >= 0 else "") + (f" (and {more} more)" if more > 0 else "")


def _render_double(app: str, file: str, document: Document, other: tuple[str, Document]) -> str:
    place, newcomer = other
    if place == file:
        return render_problems(newcomer)
    return f"{place}:{newcomer.first_line}: name: found {app}, which {file}:{document.first_line} has already"


def _loose_problems(files: Mapping[str, Seen], told: Collection[str]) -> Iterable[FileProblem]:
    for file in sorted(files):
        if file not in told and (problem := _unowned_problem(files[file])) is not None:
            yield problem
