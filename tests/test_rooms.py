"""The floors of the house: a room imports only lower floors, and rooms side by side do not know each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
HOUSE = TOP / "controller"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "clock", "kernel", "seccomp", "wire"),
    ("knobs", "lock"),
    ("settings",),
    ("spec",),
    ("routing",),
    ("world",),
    ("plan",),
    ("ports",),
    ("intake", "engine", "probe", "store", "publisher", "tls", "control", "proxy", "vault", "checkout"),
    ("loop", "supervisor"),
    ("queries", "orders", "sources", "archive", "inspection", "fixed"),
    ("api", "dashboard", "cli"),
    ("house",),
    ("app",),
    ("__main__",),
)
"""Lowest first; each name is a module or a package of `controller`."""

WORKER_MAY_IMPORT = {
    "controller.errors",
    "controller.clock",
    "controller.kernel",
    "controller.seccomp",
    "controller.wire.codec",
    "controller.wire.fields",
    "controller.wire.lines",
    "controller.routing.table",
    "controller.routing.match",
    "controller.routing.access",
    "controller.routing.choose",
    "controller.routing.entries",
    "controller.routing.snapshot",
}
"""What the proxy's processes may know of the rest of the house."""

WORKER_LIBRARIES = {"mitmproxy", "httptools", "uvloop", "bcrypt", "cryptography"}
"""mitmproxy brings the last two along: bcrypt checks htpasswd lines, cryptography reads certificates."""

PURE_ROOMS = ("plan", "world")
IMPURE = {
    "asyncio", "logging", "os", "random", "secrets", "shutil", "socket", "sqlite3", "structlog", "subprocess",
    "tempfile", "threading", "time", "uuid", "urllib.request", "http",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's target, and where it stands."""

    file: Path
    line: int
    target: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(TOP)}:{self.line}: {self.target}"


def imports_of(file: Path) -> Iterator[Import]:
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            for alias in node.names:
                yield Import(file, node.lineno, f"{node.module}.{alias.name}")


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def files_of(room: str) -> list[Path]:
    return [HOUSE / f"{room}.py"] if (HOUSE / f"{room}.py").exists() else sorted((HOUSE / room).rglob("*.py"))


def room_of(target: str) -> str | None:
    """Return the room that an import goes to; None for what is not ours."""
    parts = target.split(".")
    return parts[1] if parts[0] == "controller" and len(parts) > 1 else None


def floor_of(room: str) -> int:
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"controller/{room} has no place in FLOORS"
    return found[0]


def all_rooms() -> list[str]:
    names = {path.stem for path in HOUSE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    return sorted(names - {"__init__"})


def test_every_room_has_a_floor_and_only_one() -> None:
    listed = [room for rooms in FLOORS for room in rooms]
    assert len(listed) == len(set(listed))
    assert set(all_rooms()) <= set(listed), "a new room needs a place in FLOORS"


@pytest.mark.parametrize("room", all_rooms())
def test_a_room_imports_only_lower_floors(room: str) -> None:
    wrong = []
    for file in files_of(room):
        for one in imports_of(file):
            other = room_of(one.target)
            if other in (None, room, "__version__"):
                continue
            if floor_of(str(other)) >= floor_of(room):
                wrong.append(str(one))
    assert not wrong, f"{room} may not import upward or sideways"


def test_no_import_hides_behind_type_checking() -> None:
    found = [
        f"{file.relative_to(TOP)}:{node.lineno}"
        for room in all_rooms()
        for file in files_of(room)
        for node in ast.walk(parse(file))
        if (isinstance(node, ast.Name) and node.id == "TYPE_CHECKING")
        or (isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING")
    ]
    assert not found


@pytest.mark.parametrize("room", PURE_ROOMS)
def test_a_pure_room_has_no_way_to_the_outside(room: str) -> None:
    wrong = [
        str(one)
        for file in files_of(room)
        for one in imports_of(file)
        if any(one.target == name or one.target.startswith(name + ".") for name in IMPURE)
    ]
    assert not wrong


def test_workers_know_nothing_of_the_controller() -> None:
    files = [*files_of("proxy"), *(HOUSE / "routing" / f"{name}.py" for name in ("table", "match", "choose"))]
    wrong = [str(one) for file in files for one in imports_of(file) if not worker_may(one.target)]
    assert not wrong


def worker_may(target: str) -> bool:
    first = target.split(".", maxsplit=1)[0]
    if first != "controller":
        return first in sys.stdlib_module_names | WORKER_LIBRARIES
    return target.startswith("controller.proxy") or any(
        target == module or target.startswith(module + ".") for module in WORKER_MAY_IMPORT
    )


def loaded_by(code: str, suspects: set[str]) -> set[str]:
    """Return which of *suspects* a fresh interpreter has loaded after *code*."""
    tail = f"\nimport sys; sys.__stdout__.write('\\n' + ' '.join(sorted({suspects!r} & set(sys.modules))))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, timeout=60, check=False, cwd=TOP
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("\n")[2].split())


def test_a_worker_process_loads_nothing_heavy() -> None:
    heavy = {"pydantic", "docker", "sqlalchemy", "fastapi", "alembic", "typer", "watchfiles", "controller.spec.model"}
    assert loaded_by("import controller.proxy.worker, controller.proxy.addon", heavy) == set()


@pytest.mark.parametrize("words", [[], ["--help"], ["status"], ["status", "--help"]])
def test_the_command_line_starts_without_the_service(words: list[str]) -> None:
    heavy = {"fastapi", "mitmproxy", "sqlalchemy", "docker", "uvicorn", "alembic", "watchfiles", "pydantic_settings"}
    code = (
        "import os, sys; os.environ['OTON_HOST'] = 'unix:///nowhere/oton.sock'\n"
        f"from controller.cli.main import main\nsys.argv = ['oton', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass"
    )
    assert loaded_by(code, heavy) == set()
