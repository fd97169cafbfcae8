"""
The operations of each rollout: written when decided, completed when done.

A decision that repeats the last one of its app (a busy engine, a crash loop) counts up the same rows instead of
adding new ones, so that trouble that lasts a week does not fill the disk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from sqlalchemy import Row, Select, select, update

from controller.plan.operations import Operation, PublishRoutes
from controller.plan.situation import Done, Memory
from controller.plan.text import render_operation
from controller.routing.table import AppRoutes, decode_app, encode_app
from controller.store.codec import clean_text, dump
from controller.store.schema import RoutesRow, StepRow
from controller.store.statements import add_row, put_row
from controller.store.thread import StoreThread, Transaction

State = Literal["planned", "done", "failed", "not_tried", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation of a pass, and how it ended."""

    id: int = 0
    app: str
    release: int
    """The release that the app was on its way to, else the one that served; 0: none."""
    at: float
    """Wall seconds when it was decided last."""
    text: str
    because: str
    state: State = "planned"
    """interrupted: the service ended before it could say how it went."""
    outcome: str = ""
    times: int = 1
    """How often in a row the same was decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One entry of the route table that was handed to the proxy."""

    at: float
    because: str
    routes: AppRoutes | None


class Steps:
    """What was decided and done, rollout by rollout."""

    def __init__(self, thread: StoreThread) -> None:
        self._thread = thread
        thread.on_open(_interrupt)

    def list(self, app: str, release: int | None = None, limit: int = 1000) -> tuple[Step, ...]:
        """Return the app's steps (of one release, or all), oldest first; the newest *limit* of them."""
        query = _columns().where(StepRow.app == app).order_by(StepRow.id.desc()).limit(limit)
        if release is not None:
            query = query.where(StepRow.release == release)
        return self._thread.call(lambda tx: tuple(_step(row) for row in tx.connection.execute(query)))[::-1]

    def published(self, app: str, limit: int = 50) -> tuple[Published, ...]:
        """Return the entries of the table that were handed out for the app, newest first."""
        query = select(RoutesRow.at, RoutesRow.because, RoutesRow.document).where(RoutesRow.app == app)
        rows = self._thread.call(
            lambda tx: tx.connection.execute(query.order_by(RoutesRow.id.desc()).limit(limit)).all()
        )
        return tuple(
            Published(at=at, because=because, routes=None if text is None else decode_app(json.loads(text)))
            for at, because, text in rows
        )


def plan_steps(app: str, memory: Memory, operations: Sequence[Operation], at: float) -> tuple[Step, ...]:
    """Return the steps that stand for *operations*."""
    release = memory.rollout.release if memory.rollout else memory.live or 0
    return tuple(
        Step(app=app, release=release, at=at, text=_words(app, one), because=clean_text(one.because))
        for one in operations
    )


def save_planned(tx: Transaction, planned: tuple[Step, ...], last: tuple[Step, ...]) -> tuple[Step, ...]:
    """Write the steps of a decision, over those of the *last* one if they are the same; return them with ids.

    Repeated ones still carry how they ended the last time, so that the same end is told once.
    """
    if planned and [_what(step) for step in planned] == [_what(step) for step in last]:
        again = tuple(replace(old, at=new.at, times=old.times + 1) for old, new in zip(last, planned, strict=True))
        for step in again:
            tx.connection.execute(put_row(StepRow), {**_values(step), "id": step.id, "state": "planned"})
        return again
    return tuple(_insert(tx, step) for step in planned)


def save_done(tx: Transaction, step: Step, done: Done) -> Step:
    """Write how a planned step ended, and the routes it published; return the step as it now reads."""
    ended = replace(step, state=done.state, outcome=clean_text(done.text))
    tx.connection.execute(put_row(StepRow), {**_values(ended), "id": step.id})
    if isinstance(done.operation, PublishRoutes) and done.state == "done":
        routes = done.operation.routes
        text = None if routes is None else dump(encode_app(routes))
        values = {"app": step.app, "at": step.at, "because": step.because, "document": text}
        tx.connection.execute(add_row(RoutesRow), values)
    return ended


def _words(app: str, operation: Operation) -> str:
    """Return the operation as a plan prints it, its reason left out."""
    return " ".join(render_operation(app, replace(operation, because="")).split())


def _insert(tx: Transaction, step: Step) -> Step:
    return replace(step, id=tx.connection.execute(add_row(StepRow), _values(step)).lastrowid)


def _values(step: Step) -> dict[str, object]:
    return {
        "app": step.app,
        "release": step.release,
        "at": step.at,
        "line": step.text,
        "because": step.because,
        "state": step.state,
        "outcome": step.outcome,
        "times": step.times,
    }


def _what(step: Step) -> tuple[str, str, int]:
    return (step.text, step.because, step.release)


def _interrupt(tx: Transaction) -> None:
    tx.connection.execute(update(StepRow).where(StepRow.state == "planned").values(state="interrupted"))


def _columns() -> Select[int, str, int, float, str, str, str, str, int]:
    row = StepRow
    return select(row.id, row.app, row.release, row.at, row.line, row.because, row.state, row.outcome, row.times)


def _step(row: Row[int, str, int, float, str, str, str, str, int]) -> Step:
    id_, app, release, at, text, because, state, outcome, times = row
    return Step(
        id=id_,
        app=app,
        release=release,
        at=at,
        text=text,
        because=because,
        state=cast(State, state),
        outcome=outcome,
        times=times,
    )
