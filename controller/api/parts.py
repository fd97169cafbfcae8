"""What the API is built from: one frozen value, handed in by the composition."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from controller.clock import Clock
from controller.orders import Orders
from controller.plan.situation import Answer, Memory, Order, Release, Situation, Standing
from controller.queries import ReadModel
from controller.spec.model import AppSpec
from controller.world.model import Routing


class Ledger(Protocol):
    """The store, as far as the API reads it."""

    def load(self, app: str) -> tuple[Memory, Mapping[int, Release], tuple[Order, ...]]: ...
    def releases(self, app: str) -> Sequence[Release]: ...
    def steps(self, app: str, release: int) -> Sequence[Any]: ...
    def answer(self, order: int) -> Answer | None: ...
    def events(self, after_id: int, app: str | None, limit: int) -> Sequence[Any]: ...


class Watched(Protocol):
    """The watched directory, as far as the API reads it."""

    def standings(self) -> Mapping[str, Standing]: ...
    def problems(self) -> Sequence[Any]: ...
    def looked_at(self) -> int: ...


class Switch(Protocol):
    """The publisher, as far as the API reads it."""

    def apps(self) -> Collection[str]: ...
    def routing(self, app: str) -> Routing: ...
    def counters(self) -> Mapping[str, Any]: ...


class Process(Protocol):
    """A command under way in a container; both directions end when it is closed."""

    def read(self) -> tuple[int, bytes] | None:
        """Return the next output with its stream (1 or 2), or None at the end."""
        ...

    def write(self, data: bytes) -> None: ...
    def end_input(self) -> None: ...
    def resize(self, width: int, height: int) -> None: ...
    def exit_code(self) -> int: ...
    def close(self) -> None: ...


class Machine(Protocol):
    """The engine, as far as people look into it."""

    def reachable(self) -> bool: ...
    def doctor(self) -> Sequence[Any]: ...


Preview = Callable[[Situation, AppSpec], Sequence[str]]
"""The plan in words that a new spec would be met with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that the API needs of the rest of the service."""

    ledger: Any
    directory: Any
    engine: Any
    publisher: Any
    model: ReadModel
    orders: Orders
    clock: Clock
    preview: Preview
    version: str = ""
    instance: str = ""
    settings: Any = None
    checks: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    """What /readyz asks beside the engine; each answers "" or what is wrong."""
    secrets_of: Callable[[str, Release], tuple[Mapping[str, str], Mapping[str, str]]] = lambda app, release: ({}, {})
    """Values for the environment and files (name -> host path) of a release's secrets."""
    source: Any = None
    """The Git checkout that the watched directory is; None: it is none."""
    webhook: Any = None
    """Verifies who calls for the checkout to look at its remote."""
    inspection: Any = None
    """Records what inspected apps are asked and answer."""
    fixed: Any = None
    """The fixed routes."""
    certificates: Any = None
    """The certificates of the public side."""
    archive: Any = None
    """Saves and stages backups."""
    findings: Callable[[], Sequence[Any]] = tuple
    """What the doctor has to say of the parts that the API does not know."""
