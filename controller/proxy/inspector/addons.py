"""People's own mitmproxy addons: their source came over the feed, and their errors are told by name."""

from __future__ import annotations

import logging
import sys
import traceback
import types
from collections.abc import Callable, Iterable
from time import monotonic

from mitmproxy import master

_TELL_S = 5.0
"""The same addon is told of no oftener than this."""

_FOLDER = "addons/"

Tell = Callable[[str, str], None]
"""Takes an addon's name and what went wrong in it."""


def load_addons(sources: Iterable[tuple[str, str]], proxy: master.Master, tell: Tell) -> list[str]:
    """Add each addon to *proxy*; one that cannot be loaded is told of and left out. Returns the names of the others."""
    loaded = []
    for name, source in sources:
        try:
            module = _make_module(name, source)
            proxy.addons.add(module)  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - it is somebody else's program, and may raise anything
            tell(name, explain(error, name))
        else:
            loaded.append(name)
    return loaded


def _make_module(name: str, source: str) -> types.ModuleType:
    module = types.ModuleType(f"oton_addon_{name.replace('-', '_')}")
    file = f"{_FOLDER}{name}.py"
    module.__file__ = file
    module.name = f"addon {name}"  # type: ignore[attr-defined] # mitmproxy's addons are known by it
    sys.modules[module.__name__] = module  # dataclasses and pickles look their module up
    exec(compile(source, file, "exec"), module.__dict__)  # noqa: S102 - this is what addons are
    return module


def explain(error: BaseException, addon: str) -> str:
    """Say in one line what an addon raised, and on which of its lines."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == f"{_FOLDER}{addon}.py"
    ]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}".removesuffix(": ")[:500]


class AddonErrors(logging.Filter):
    """
    Finds in what is logged the errors that addons raised: they are told, and each is logged no oftener than that.

    *exhausted* is called when there was no memory left, whoever asked for it.
    """

    def __init__(self, names: Iterable[str], tell: Tell, exhausted: Callable[[], None]) -> None:
        super().__init__()
        self._names = tuple(names)
        self._tell = tell
        self._exhausted = exhausted
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell of an error in one of ours; say whether the record is to be logged."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return True
        if isinstance(error, MemoryError):
            self._exhausted()
        files = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
        name = next((one for one in self._names if f"{_FOLDER}{one}.py" in files), "")
        now = monotonic()
        if name and now - self._told.get(name, -_TELL_S) < _TELL_S:
            return False  # an error at each request would be a traceback at each request
        if name:
            self._told[name] = now
            self._tell(name, explain(error, name))
        return True
