"""Keeping a work tree at the head of a remote branch, as long as no work of a person stands in the way."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from controller.checkout.config import check_config
from controller.checkout.git import FAR_S, REMOTE, Git
from controller.checkout.log import Commit, load_commits, load_head
from controller.errors import ControllerError, Refused

log = structlog.get_logger("git")

LOCAL = "local"
"""The folder of the checkout whose specs do not come from Git; Git is told to ignore it."""
SYNCED = "refs/oton/synced"
"""Where we last moved the work tree to; what stands beyond it is a person's."""
FOLLOWED = "refs/oton/branch"
"""Points to the branch that we moved it on."""
SHOWN_FILES = 3
SOON_S = 1.0
"""Between two looks at the remote, however often somebody asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What readers see; replaced by one assignment."""

    commit: Commit | None = None
    branch: str = ""
    problem: str = ""
    """Why the work tree is not at the remote's head; for a person."""
    looked: float = 0.0
    """Wall seconds of the last look at the remote that succeeded."""
    tracked: frozenset[str] = frozenset()
    """Paths that come from the repository, relative to the work tree."""
    commits: Mapping[str, Commit] = field(default_factory=dict)
    """Path -> the commit that last changed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Who is told what."""

    quiet: Callable[[], AbstractContextManager[None]] = nullcontext
    """Held while files change, so that a checkout counts as one change."""
    moved: Callable[[], None] = lambda: None
    tell: Callable[[str, str], None] = lambda level, text: None
    """One line for the event log: level and text."""


class Checkout:
    """One work tree and its remote branch; `run` is the body of a thread of its own."""

    def __init__(self, root: Path, git: Git, *, branch: str | None, folder: str, interval_s: float) -> None:
        self._root = root
        self._git = git
        self._branch = branch
        self._folder = folder
        self._interval_s = interval_s
        self._asked = threading.Event()
        self.state = State()
        self.listeners = Listeners()

    def load(self) -> None:
        """Know what is checked out already; nothing is an answer, too. Talks to no remote."""
        try:
            if self._exists():
                check_config(self._git, self._root)
                self._take_stock()
        except (ControllerError, OSError) as error:
            self._say(str(error))

    def ask(self) -> None:
        """Look at the remote soon."""
        self._asked.set()

    def run(self, stop: threading.Event) -> None:
        """Follow the branch until *stop*; an unreachable remote is met again at the next interval."""
        self._git.end(stop)
        while not stop.is_set():
            self._asked.clear()
            self.follow()
            soon = time.monotonic() + SOON_S
            due = time.monotonic() + self._interval_s * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
            while not stop.is_set() and time.monotonic() < due:
                if self._asked.wait(0.2) and time.monotonic() >= soon:
                    break
                if self._asked.is_set():
                    stop.wait(0.1)

    def follow(self) -> None:
        """Move the work tree to the remote's head, or say why not."""
        try:
            problem = self._follow()
        except ControllerError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{error.filename}: {error.strerror}"
        if not self._git.stopped:
            self._say(problem)

    def locked(self, file: str) -> str:
        """Return what alone may change *file* (its path, the directory in front); "" where it is not tracked."""
        return "Git" if self._relative(file) in self.state.tracked else ""

    def source(self, file: str) -> tuple[str, str]:
        """Return who wants what stands in *file*, and why: its last commit; ("", "") for a file that is not tracked."""
        state, path = self.state, self._relative(file)
        commit = state.commits.get(path, state.commit) if path in state.tracked else None
        return (f"git {commit.short}", f"{commit.author}: {commit.subject}") if commit else ("", "")

    def troubles(self) -> tuple[str, ...]:
        """Return what is wrong, for people."""
        return (self.state.problem,) if self.state.problem else ()

    def _relative(self, file: str) -> str:
        return file.removeprefix(f"{self._root}/")

    def _exists(self) -> bool:
        return (self._root / ".git").exists()

    def _follow(self) -> str:
        branch = self._find_branch()
        self._prepare(branch)
        tracking = f"refs/remotes/{REMOTE}/{branch}"
        self._git.run(
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            REMOTE,
            f"+refs/heads/{branch}:{tracking}",
            limit_s=FAR_S,
        )
        target = self._git.run("rev-parse", "--verify", tracking).strip()
        head = self._head()
        problem = self._find_obstacle(branch, head, target)
        if not problem and head != target:
            self._move(branch, head, target)
        elif self.state.commit is None or self.state.commit.id != head:
            self._take_stock()
            self.listeners.moved()
        if head == target and not problem and self._synced() != head:
            self._git.run("update-ref", SYNCED, head)  # somebody pulled by hand; nothing of it is theirs alone
        self.state = replace(self.state, branch=branch, looked=time.time())
        return problem or self._find_folder()

    def _find_branch(self) -> str:
        if known := self._branch or self.state.branch:
            return known
        self._prepare("main")  # git asks remotes from inside of a repository only, as we give it the address
        for line in self._git.run("ls-remote", "--symref", REMOTE, "HEAD", limit_s=FAR_S).splitlines():
            if line.startswith("ref: refs/heads/"):
                return line.removeprefix("ref: refs/heads/").split("\t")[0]
        raise Refused("the repository has no default branch; set OTON_GIT_BRANCH")

    def _prepare(self, branch: str) -> None:
        """Make an empty repository where there is none yet; what lies there stays as it is."""
        if not self._root.is_dir():
            self._root.mkdir(parents=True)
        if not self._exists():
            self._git.run("init", "--quiet", "--initial-branch", branch)
        check_config(self._git, self._root)
        self._exclude_local()

    def _exclude_local(self) -> None:
        place = Path(self._git.run("rev-parse", "--git-path", "info/exclude").strip())
        place = place if place.is_absolute() else self._root / place
        text = place.read_text() if place.exists() else ""
        line = f"/{LOCAL}/"
        if line not in text.splitlines():
            place.parent.mkdir(exist_ok=True)
            place.write_text(f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{line}\n")

    def _head(self) -> str:
        return (
            self._git.run("rev-parse", "HEAD").strip() if self._git.says("rev-parse", "--verify", "-q", "HEAD") else ""
        )

    def _find_obstacle(self, branch: str, head: str, target: str) -> str:
        """Return what of a person's work stands in the way, with what to do; "" if nothing does."""
        if not head:
            return ""
        changed = [
            entry[3:]
            for entry in self._git.run("status", "--porcelain", "-z", "-uno", "--ignore-submodules=all").split("\0")
            if entry
        ]
        if changed:
            more = f" and {len(changed) - SHOWN_FILES} more" if len(changed) > SHOWN_FILES else ""
            files = ", ".join(changed[:SHOWN_FILES]) + more
            return f"changed by hand and not committed: {files}; commit and push it, or: git -C {self._root} restore ."
        on = self._checked_out()
        if head != target and on not in (branch, self._followed()):
            there = f"branch {on} is" if on != "HEAD" else "a single commit is"
            return f"{there} checked out; back to the service's branch with: git -C {self._root} switch {branch}"
        is_behind = self._git.says("merge-base", "--is-ancestor", head, target)
        if not is_behind and head != self._synced():
            return f"it has commits that {branch} of the remote lacks; push them, or move them to another branch"
        return ""

    def _find_folder(self) -> str:
        """Return what is wrong with the folder that holds the specs; "" if it is there."""
        if (self._root / self._folder).is_dir():
            return ""
        return f"the repository has no folder {self._folder}; put it there, or change OTON_GIT_PATH"

    def _checked_out(self) -> str:
        """Return the branch that is checked out; HEAD where it is none."""
        return self._git.run("rev-parse", "--abbrev-ref", "HEAD").strip()

    def _followed(self) -> str:
        """Return the branch that we followed last: one that the setting has changed since is ours to leave."""
        is_there = self._git.says("symbolic-ref", "-q", FOLLOWED)
        return self._git.run("symbolic-ref", "--short", FOLLOWED).strip() if is_there else ""

    def _synced(self) -> str:
        is_there = self._git.says("rev-parse", "--verify", "-q", SYNCED)
        return self._git.run("rev-parse", SYNCED).strip() if is_there else ""

    def _move(self, branch: str, head: str, target: str) -> None:
        """Move the work tree; git itself refuses where that would overwrite what nobody committed."""
        is_forced = bool(head) and not self._git.says("merge-base", "--is-ancestor", head, target)
        with self.listeners.quiet():
            if head and self._checked_out() == branch:
                self._git.run("reset", "--quiet", "--keep", target, limit_s=FAR_S)
            else:
                self._git.run("checkout", "--quiet", "-B", branch, target, limit_s=FAR_S)
            self._git.run("update-ref", SYNCED, target)
            self._git.run("symbolic-ref", FOLLOWED, f"refs/heads/{branch}")
            self._take_stock()
        commit = self.state.commit
        text = f"checked out {commit.short} of {branch}: {commit.author}: {commit.subject}" if commit else ""
        log.info(text)
        self.listeners.tell(
            "warning" if is_forced else "info", f"{text} (history was rewritten)" if is_forced else text
        )
        self.listeners.moved()

    def _take_stock(self) -> None:
        head = self._head()
        if not head:
            return
        tracked = frozenset(self._git.run("ls-files", "-z").split("\0")) - {""}
        commits = load_commits(self._git, self._folder)
        self.state = replace(self.state, commit=load_head(self._git), tracked=tracked, commits=commits)

    def _say(self, problem: str) -> None:
        before, self.state = self.state.problem, replace(self.state, problem=problem)
        if problem and problem != before:
            log.warning("the checkout stays at its commit", why=problem)
            self.listeners.tell("warning", f"the checkout stays at its commit: {problem}")
        elif before and not problem:
            log.info("the checkout is following its remote again")
            self.listeners.tell("info", "the checkout is following its remote again")


def folders_that_count(folder: str) -> Iterator[str]:
    """Yield the folders of a checkout whose specs count: those of the repository's *folder*, and the local ones."""
    if folder.strip("/"):
        yield folder.strip("/")
        yield LOCAL
