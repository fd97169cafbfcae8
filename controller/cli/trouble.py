"""How a command ends when it does not end well: one line of why, one of what to do, and the contract's exit code."""

from __future__ import annotations

from collections.abc import Iterable

OK = 0
DIFFERENT = 1
USAGE = 2
FAILED = 3
TIMEOUT = 4
CONFLICT = 5
MISSING = 6
FORBIDDEN = 7
UNREACHABLE = 8
WAITING = 9
INTERRUPTED = 130
READER_GONE = 141
"""What a shell says of a tool that was ended because nobody read its output: 128 and SIGPIPE."""

SEVERITY = (UNREACHABLE, FORBIDDEN, USAGE, CONFLICT, MISSING, FAILED, TIMEOUT, WAITING)
"""Several apps in one call end with the first of these that applies."""


class Trouble(Exception):
    """A command cannot go on. *text* says why; *lines* are shown below it; *hint* says what to do next."""

    def __init__(self, code: int, text: str, *, lines: Iterable[str] = (), hint: str = "") -> None:
        super().__init__(text)
        self.code, self.text, self.lines, self.hint = code, text, tuple(lines), hint

    def render(self) -> str:
        """Render it for standard error."""
        shown = [f"oton: {self.text}", *(f"  {line}" for line in self.lines)]
        return "\n".join([*shown, f"  next: {self.hint}"] if self.hint else shown)


def worst(codes: Iterable[int]) -> int:
    """Return the exit code for several apps in one call."""
    found = set(codes)
    return next((code for code in SEVERITY if code in found), max(found, default=OK))
