"""How waiting looks: one line per app that changes in place on a terminal, plain lines that only grow elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from controller.cli.ends import End
from controller.cli.follow import Screen
from controller.cli.show import plain, say, say_all, use_colour


class Lines:
    """A line whenever an app's state changes; for pipes and logs."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {}

    def show(self, app: str, text: str) -> None:
        """Show where an app is."""
        if self._before.get(app) != text:
            self._before[app] = text
            say(f"{app}: {plain(text)}")


class Live:
    """One line per app, changed in place."""

    def __init__(self, live: Any) -> None:
        self._live, self._began = live, time.monotonic()
        self._texts: dict[str, str] = {}

    def show(self, app: str, text: str) -> None:
        """Show where an app is."""
        self._texts[app] = text
        self._live.update(self)

    def __rich__(self) -> Any:
        """Render for rich, which asks for it again and again."""
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1))
        took = f"{time.monotonic() - self._began:.0f}s"
        for app, text in self._texts.items():
            grid.add_row(Text("●", style="yellow"), Text(app, style="bold"), Text(plain(text)), Text(took, style="dim"))
        return grid


@contextmanager
def screen() -> Iterator[Screen]:
    """Yield what shows progress on standard error."""
    if not use_colour(sys.stderr):
        yield Lines()
        return
    from rich.console import Console
    from rich.live import Live as RichLive

    with RichLive(console=Console(stderr=True), refresh_per_second=5, transient=True) as live:
        yield Live(live)


def with_name(end: End) -> str:
    """Return an end's text with the app's name in front, once."""
    return plain(end.text) if end.text.startswith(f"{end.app} ") else f"{end.app}: {plain(end.text)}"


def report(ends: Sequence[End]) -> None:
    """Say on standard error how each app ended that did not end well."""
    for end in ends:
        if end.code == 0:
            continue
        say(with_name(end))
        say_all(end.lines)
        if end.serves:
            say(f"  now: {end.serves}")
        if end.hint:
            say(f"  next: {end.hint}")
