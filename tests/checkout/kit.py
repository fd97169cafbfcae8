"""Real repositories below a test's own folder, and a checkout that follows one of them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from controller.checkout.follow import Checkout, Listeners
from controller.checkout.git import Git, Remote

WHO = {"GIT_AUTHOR_NAME": "Kim", "GIT_AUTHOR_EMAIL": "kim@example.com"}
BY = {"GIT_COMMITTER_NAME": "Kim", "GIT_COMMITTER_EMAIL": "kim@example.com"}


@dataclass
class Repository:
    """A work tree of a person and the bare repository that it pushes to."""

    root: Path
    branch: str = "main"

    def __post_init__(self) -> None:
        self.bare, self.work = self.root / "origin.git", self.root / "person"
        git(self.root, "init", "-q", "--bare", "-b", self.branch, str(self.bare))
        git(self.root, "clone", "-q", str(self.bare), str(self.work))
        git(self.work, "checkout", "-q", "-B", self.branch)

    @property
    def url(self) -> str:
        return f"file://{self.bare}"

    def commit(self, subject: str, files: dict[str, str | None], *, push: bool = True, author: str = "Kim") -> str:
        """Write *files* (None: remove), commit and push them; return the commit's id."""
        write(self.work, files)
        git(self.work, "add", "-A")
        git(self.work, "commit", "-q", "-m", subject, environment={"GIT_AUTHOR_NAME": author})
        if push:
            git(self.work, "push", "-q", "origin", self.branch)
        return git(self.work, "rev-parse", "HEAD").strip()

    def rewrite(self, subject: str, files: dict[str, str | None]) -> str:
        """Replace the newest commit by another one, and push that by force."""
        write(self.work, files)
        git(self.work, "add", "-A")
        git(self.work, "commit", "-q", "--amend", "-m", subject)
        git(self.work, "push", "-q", "-f", "origin", self.branch)
        return git(self.work, "rev-parse", "HEAD").strip()


def git(folder: Path, *words: str, environment: dict[str, str] | None = None) -> str:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    ours = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", **WHO, **BY, **(environment or {})}
    done = subprocess.run(
        ["git", *words], cwd=folder, env=plain | ours, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr}"
    return done.stdout


def write(folder: Path, files: dict[str, str | None]) -> None:
    for name, text in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            place.unlink()
        else:
            place.write_text(text)


@dataclass
class Following:
    """A checkout with what it told."""

    root: Path
    url: str
    branch: str | None = None
    folder: str = ""
    told: list[tuple[str, str]] = field(default_factory=list)
    moves: int = 0

    def __post_init__(self) -> None:
        remote = Remote(url=self.url, known_hosts=self.root.parent / "known_hosts")
        self.git = Git(self.root, remote)
        listeners = Listeners(moved=self._moved, tell=lambda level, text: self.told.append((level, text)))
        self.checkout = Checkout(self.root, self.git, branch=self.branch, folder=self.folder, interval_s=60.0)
        self.checkout.listeners = listeners

    def _moved(self) -> None:
        self.moves += 1

    def follow(self) -> str:
        """Follow once; return the problem, "" if there is none."""
        self.checkout.follow()
        return self.checkout.state.problem

    @property
    def head(self) -> str:
        return git(self.root, "rev-parse", "HEAD").strip()

    def text(self, file: str) -> str:
        place = self.root / file
        return place.read_text() if place.exists() else "(gone)"

    def files(self) -> list[str]:
        found = (file for file in self.root.rglob("*") if file.is_file() and ".git" not in file.parts)
        return sorted(str(file.relative_to(self.root)) for file in found)
