"""
The only way a person changes something: every order is stored, audited, and rung for.

An order is a wish under a change number; the next passes over the app answer it. Nothing here waits for
that answer, touches the engine, or decides whether the order can be honoured beyond its app being known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from controller.clock import Clock, Instant
from controller.errors import ControllerError, Refused
from controller.plan.situation import Memory, Order, Release, Standing, Verb
from controller.ports import Ring

GIVEN: frozenset[Verb] = frozenset(
    {"rollback", "unpin", "promote", "abort", "retry", "restart", "suspend", "resume", "maintenance"}
)
"""The verbs that are an order and nothing else; apply and delete also touch the watched directory."""


class UnknownApp(Refused):
    """There is no app of that name."""


class Uploaded(Protocol):
    """Where the watched directory put a spec."""

    @property
    def app(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def digest(self) -> str: ...


class Directory(Protocol):
    """The watched directory, as far as orders change it."""

    def upload(self, app: str, data: bytes, by: str) -> Uploaded: ...
    def delete(self, app: str) -> None: ...
    def standings(self) -> Mapping[str, Standing]: ...


class Book(Protocol):
    """Where orders and audit rows are written."""

    def order(self, order: Order) -> Order: ...
    def load(self, app: str) -> tuple[Memory, Mapping[int, Release], tuple[Order, ...]]: ...
    def add_audit(self, *, by: str, verb: str, app: str, at: Instant, outcome: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What an accepted change is known by: judge nothing before the app's `change` is at least this one."""

    app: str
    change: int
    file: str = ""
    digest: str = ""


class Orders:
    """Takes what people ask for; safe to call from several threads."""

    def __init__(self, book: Book, directory: Directory, ring: Ring, clock: Clock) -> None:
        self._book = book
        self._directory = directory
        self._ring = ring
        self._clock = clock

    def apply(self, app: str, data: bytes, by: str) -> Accepted:
        """
        Put the one document *data* of *app* into the watched directory and order it to be applied.

        Returns once the file is safely there. Raises Refused where it cannot be taken.
        """

        def act() -> Accepted:
            at = self._clock.now()
            uploaded = self._directory.upload(app, data, by)
            # The order comes second, so that whoever looks it up finds the file that it speaks of. What a pass made of
            # the file meanwhile is the order's own: it is from before it.
            order = self._store("apply", app, by, digest=uploaded.digest, at=at)
            return Accepted(app=app, change=order.id, file=uploaded.file, digest=uploaded.digest)

        return self._audited("apply", app, by, act)

    def delete(self, app: str, by: str) -> Accepted:
        """Take the app's spec out of the watched directory and order what runs of it to be removed."""

        def act() -> Accepted:
            self.need_known(app)
            self._directory.delete(app)
            return Accepted(app=app, change=self._store("delete", app, by).id)

        return self._audited("delete", app, by, act)

    def give(
        self,
        verb: Verb,
        app: str,
        by: str,
        *,
        to: int | None = None,
        on: bool = False,
        message: str = "",
        judged: str = "",
    ) -> Accepted:
        """
        Order one of `GIVEN` of a known app. Raises UnknownApp.

        *judged*: the digest of the only spec that it may bring into force; empty: any.
        """
        if verb not in GIVEN:
            raise Refused(f"{verb}: not a known order")

        def act() -> Accepted:
            self.need_known(app)
            return Accepted(app=app, change=self._store(verb, app, by, to=to, on=on, message=message, digest=judged).id)

        return self._audited(verb, app, by, act)

    def act[T](self, verb: str, app: str, by: str, work: Callable[[], T], *, ring: bool = False) -> T:
        """Do something that is no order of an app (a token, a secret, a route) and leave its audit row."""
        try:
            done = work()
        except ControllerError as error:
            self._audit(verb, app, by, f"refused: {error}")
            raise
        self._audit(verb, app, by, "done")
        if ring:
            self._ring(app)
        return done

    def note(self, verb: str, app: str, by: str, outcome: str) -> None:
        """Leave an audit row for something that a person did and that is no order."""
        self._audit(verb, app, by, outcome)

    def need_known(self, app: str) -> None:
        """Raise UnknownApp unless the directory or the history has the app, and it is not removed."""
        standing = self._directory.standings().get(app)
        if standing is not None and not standing.gone:
            return
        memory, _, _ = self._book.load(app)
        if memory.removed or (memory.last_release == 0 and memory.change == 0):
            raise UnknownApp(f"{app}: no such app")

    def _store(
        self,
        verb: Verb,
        app: str,
        by: str,
        *,
        to: int | None = None,
        on: bool = False,
        message: str = "",
        digest: str = "",
        at: Instant | None = None,
    ) -> Order:
        at = at or self._clock.now()
        order = Order(id=0, app=app, verb=verb, by=by, at=at, to=to, on=on, message=message, digest=digest)
        stored = self._book.order(order)
        self._ring(app)
        return stored

    def _audited(self, verb: str, app: str, by: str, act: Callable[[], Accepted]) -> Accepted:
        try:
            accepted = act()
        except ControllerError as error:
            self._audit(verb, app, by, f"refused: {error}")
            raise
        self._audit(verb, app, by, f"accepted as change {accepted.change}")
        return accepted

    def _audit(self, verb: str, app: str, by: str, outcome: str) -> None:
        self._book.add_audit(by=by, verb=verb, app=app, at=self._clock.now(), outcome=outcome)
