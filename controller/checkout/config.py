"""What a checkout's own configuration may not say: git would run it, or go elsewhere with our credentials, as us."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from controller.checkout.git import Git
from controller.errors import Refused

_RUNS = re.compile(
    r"core\.(fsmonitor|hookspath|sshcommand|gitproxy|askpass|editor|pager|attributesfile|alternaterefscommand)"
    r"|filter\..*|diff\.external|diff\..*\.(textconv|command)|merge\..*\.driver"
    r"|credential\..*|include(if)?\..*|url\..*|http\..*|protocol\..*|gpg\..*|alias\..*|hook\..*"
    r"|remote\..*\.(vcs|uploadpack|receivepack|proxy)|ssh\..*|extensions\.worktreeconfig|uploadpack\..*"
)
"""Keys, in lower case, that name a program, another file of such keys, or another place to ask."""


def check_config(git: Git, root: Path) -> None:
    """Raise Refused where the checkout's configuration could make git do what nobody asked the service for."""
    place = root / ".git" / "config"
    for one in (place.parent, place):
        mode = one.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise Refused(f"{one} is a link; the service follows none there: put the real one in its place")
        if mode & stat.S_IWOTH:
            raise Refused(f"{one} can be written by everybody, and git would run what stands there: chmod o-w {one}")
    names = git.run("config", "--file", str(place), "--no-includes", "--name-only", "--null", "--list").split("\0")
    bad = next((name for name in names if _RUNS.fullmatch(name.lower())), None)
    if bad is not None:
        mend = f"git config --file {place} --unset-all {bad}"
        raise Refused(f"its .git/config sets {bad}, which the service does not run with; take it out: {mend}")
