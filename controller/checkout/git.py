"""The `git` program on one work tree: no shell, no prompt, an end to every call, and no credentials in what it says."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from controller.errors import Refused, Retry

QUICK_S = 30.0
"""Longest for a call that asks the work tree alone."""
FAR_S = 300.0
"""Longest for a call that talks to the remote; the first one fetches all of it."""
CONNECT_S = 15
REMOTE = "oton"
"""Our name for the remote; its address is given with each call, and so stands in no file."""
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
_NOISE = re.compile(r"^(fatal|error|hint|warning|remote): *", re.IGNORECASE)
_SSH_SAID = re.compile(r"Permission denied|IDENTIFICATION HAS CHANGED|Host key|bad permissions|^ssh: |^kex_")
_SAID = 300
_NOT_FOR_GIT = ("GIT_", "OTON_", "DB_")
_USER, _PASSWORD = "OTON_GIT_USER", "OTON_GIT_PASSWORD"
_HELPER = f'!f() {{ test "$1" = get && printf "username=%s\\npassword=%s\\n" "${_USER}" "${_PASSWORD}"; }}; f'
"""A credential helper of one line of shell; printf is the shell's own, and so in no list of processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Where the repository is, and how to be let in."""

    url: str
    key: Path | None = None
    """Private key for an ssh address; None: what ssh itself finds."""
    known_hosts: Path
    """Where the host keys of ssh addresses are kept: the first one seen is taken, another one later is refused."""


@dataclass(frozen=True, slots=True)
class Access:
    """An address without credentials, and how git gets those: by its environment, which only our own user can read."""

    url: str
    settings: Mapping[str, str]
    environment: Mapping[str, str]


def find_access(url: str) -> Access:
    """Take the credentials out of an http address: git hands addresses on in its children's command lines."""
    parts = urlsplit(url) if url.startswith(("http://", "https://")) else None
    if parts is None or "@" not in parts.netloc:
        return Access(url, {}, {})
    host = parts.netloc.rpartition("@")[2]
    bare = urlunsplit(parts._replace(netloc=host))
    known = {_USER: unquote(parts.username or ""), _PASSWORD: unquote(parts.password or "")}
    # For this host alone, so that none other learns them by a redirect.
    return Access(bare, {f"credential.{parts.scheme}://{host}.helper": _HELPER}, known)


class Git:
    """Runs git in *root*, whose repository is `root/.git` and no other one further up."""

    def __init__(self, root: Path, remote: Remote) -> None:
        self._root = root
        self._remote = remote
        self._stop = threading.Event()

    def run(self, *words: str, limit_s: float = QUICK_S) -> str:
        """Return what git prints. Raises Retry with its reason in one line, Refused where there is no git."""
        code, out, err = self._call(words, limit_s)
        if code != 0:
            raise Retry(f"git {words[0]}: {explain(err or out)}")
        return out

    def says(self, *words: str) -> bool:
        """Say whether git answers yes (exit code 0)."""
        return self._call(words, QUICK_S)[0] == 0

    @property
    def stopped(self) -> bool:
        """Say whether calls are ended at once, since the service stops."""
        return self._stop.is_set()

    def end(self, stop: threading.Event) -> None:
        """From now on, end a call under way when *stop* is set."""
        self._stop = stop

    def _call(self, words: Sequence[str], limit_s: float) -> tuple[int, str, str]:
        try:
            process = subprocess.Popen(
                ["git", *words],
                cwd=self._root,
                env=self._environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # A group of its own: git's ssh has to end with it.
                start_new_session=True,
            )
        except FileNotFoundError as error:
            gone = not self._root.is_dir()
            raise Refused(f"{self._root}: no such directory" if gone else "git is not installed") from error
        except OSError as error:
            raise Retry(f"git cannot be started: {error.strerror or error}") from error
        with process:
            out, err = self._wait(process, words[0], time.monotonic() + limit_s, limit_s)
        return process.returncode, _text(out), _text(err)

    def _wait(self, process: subprocess.Popen[bytes], word: str, end: float, limit_s: float) -> tuple[bytes, bytes]:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=0.2)
            if self._stop.is_set() or time.monotonic() > end:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                raise Retry(
                    f"git {word}: the service is stopping"
                    if self._stop.is_set()
                    else f"git {word}: no end within {limit_s:g} s"
                )

    def _environment(self, given: Mapping[str, str]) -> dict[str, str]:
        # Whatever GIT_ variables we were started with mean another repository.
        plain = {name: value for name, value in given.items() if not name.startswith(_NOT_FOR_GIT)}
        access = find_access(self._remote.url)
        settings = {
            f"remote.{REMOTE}.url": access.url,
            **access.settings,
            # Hooks of a work tree are programs that whoever may write there would run as us.
            "core.hooksPath": "/dev/null",
            "core.fsmonitor": "false",
            "core.attributesFile": "/dev/null",
            # Submodules are not followed. What .gitmodules says of them is not even read.
            "submodule.recurse": "false",
            "fetch.recurseSubmodules": "false",
            "diff.ignoreSubmodules": "all",
            "core.quotePath": "false",
            "gc.autoDetach": "false",
            "advice.detachedHead": "false",
        }
        numbered = enumerate(settings.items())
        config = {
            f"GIT_CONFIG_{what}_{n}": text
            for n, pair in numbered
            for what, text in zip(("KEY", "VALUE"), pair, strict=True)
        }
        return (
            plain
            | dict(access.environment)
            | config
            | {
                "GIT_CONFIG_COUNT": str(len(settings)),
                "GIT_DIR": str(self._root / ".git"),
                "GIT_WORK_TREE": str(self._root),
                "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
                "GIT_TERMINAL_PROMPT": "0",
                "GIT_ASKPASS": "true",
                "GIT_SSH_COMMAND": self._ssh(),
                "GIT_SSH_VARIANT": "ssh",
                "GIT_HTTP_LOW_SPEED_LIMIT": "1",
                "GIT_HTTP_LOW_SPEED_TIME": str(CONNECT_S * 2),
                "LC_ALL": "C",
            }
        )

    def _ssh(self) -> str:
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(CONNECT_S),
            "ServerAliveInterval": "10",
            "StrictHostKeyChecking": "accept-new",
            # Inside its own quotes, so that ssh does not take a space in the path for a second file.
            "UserKnownHostsFile": f'"{self._remote.known_hosts}"',
        }
        words = ["ssh", *(f"-o{name}={value}" for name, value in options.items())]
        if self._remote.key is not None:
            words += ["-oIdentitiesOnly=yes", "-i", str(self._remote.key)]
        return shlex.join(words)


def explain(said: str) -> str:
    """Return in one line what tells most of what git and its ssh printed, without credentials."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("hint:")]
    fatal = [_whole(line, lines) for line in lines if line.lower().startswith(("fatal:", "error:"))]
    # git itself only knows that its ssh ended; why, ssh said before.
    telling = [line for line in lines if _SSH_SAID.search(line)][:1] + (fatal or lines)[:1]
    text = "; ".join(dict.fromkeys(_NOISE.sub("", line) for line in telling)) or "no reason given"
    return _CREDENTIALS.sub("", text)[:_SAID]


def _whole(line: str, lines: Sequence[str]) -> str:
    """Return a line that announces a list together with the first of it."""
    after = lines[lines.index(line) + 1 :]
    return f"{line} {after[0]}" if line.endswith(":") and after else line


def without_credentials(url: str) -> str:
    """Return an address that may be shown."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
