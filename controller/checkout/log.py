"""Commits as history shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controller.checkout.git import Git

FAR_BACK = 1000
"""How many commits are searched for the ones that last changed the files."""
LONGEST = 80
_MARK, _PART = "\x01", "\x1f"
_FORMAT = f"--format={_MARK}%H{_PART}%an{_PART}%s"


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit, in text that may be shown on a line."""

    id: str
    author: str
    subject: str

    @property
    def short(self) -> str:
        """The id as people write it."""
        return self.id[:7]


def load_head(git: Git) -> Commit | None:
    """Return the commit that is checked out."""
    lines = git.run("log", "-1", _FORMAT).splitlines()
    return next((commit for commit, _ in parse_log(lines)), None)


def load_commits(git: Git, folder: str) -> Mapping[str, Commit]:
    """Return the commit that last changed each file in *folder*; a merge counts as what it brought."""
    words = (
        "log",
        f"-{FAR_BACK}",
        "--first-parent",
        "-m",
        "--no-renames",
        "--name-only",
        "--ignore-submodules=all",
        _FORMAT,
        "--",
        folder or ".",
    )
    found: dict[str, Commit] = {}
    for commit, file in parse_log(git.run(*words).splitlines()):
        if file:
            found.setdefault(file, commit)
    return found


def parse_log(lines: list[str]) -> Iterator[tuple[Commit, str]]:
    """Yield each commit of a log with "", and then with each of its files."""
    commit = None
    for line in lines:
        if line.startswith(_MARK):
            number, author, subject = [*line[1:].split(_PART), "", ""][:3]
            commit = Commit(number, clean(author), clean(subject))
            yield commit, ""
        elif line and commit is not None:
            yield commit, line


def clean(text: str) -> str:
    """Return what somebody wrote into a commit as one short line without control characters."""
    line = "".join(letter for letter in text if letter.isprintable())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
