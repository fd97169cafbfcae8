"""
The tables, typed.

Whoever changes one adds a migration; a test compares the two. Columns named `document` hold one of our
frozen values as JSON (`codec`), so that a new field with a default needs no migration.
"""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """What all tables share: names for every constraint, so that migrations can name them too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class CounterRow(Base):
    """Numbers that only grow: `change` and `event`."""

    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class AppRow(Base):
    """One app: what its passes remember. The row outlives the app, and with it the release counter."""

    __tablename__ = "apps"
    name: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[str]
    """Memory."""
    notes: Mapped[str]
    """The notes of the last pass that had any to write; the same ones are not written twice."""


class ReleaseRow(Base):
    """One release of an app."""

    __tablename__ = "releases"
    app: Mapped[str] = mapped_column(ForeignKey("apps.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str]
    image_id: Mapped[str]
    kind: Mapped[str]
    by: Mapped[str]
    reason: Mapped[str]
    outcome: Mapped[str]
    message: Mapped[str]
    spec: Mapped[str]
    document: Mapped[str]
    """The release's other fields."""


class StepRow(Base):
    """One operation that a pass decided on, and how it ended."""

    __tablename__ = "steps"
    __table_args__ = (
        Index("ix_steps_app_release", "app", "release", "id"),
        Index("ix_steps_planned", "id", sqlite_where=text("state = 'planned'")),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    app: Mapped[str] = mapped_column(ForeignKey("apps.name"))
    release: Mapped[int]
    at: Mapped[float]
    """Wall seconds when it was decided last."""
    line: Mapped[str]
    because: Mapped[str]
    state: Mapped[str]
    """planned, done, failed, not_tried, interrupted."""
    outcome: Mapped[str]
    times: Mapped[int]
    """How often in a row the same was decided."""


class OrderRow(Base):
    """What a person asked for, and once answered, what became of it."""

    __tablename__ = "orders"
    __table_args__ = (Index("ix_orders_app", "app", "id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    app: Mapped[str]
    at: Mapped[float]
    document: Mapped[str]
    """Order."""
    answer: Mapped[str | None]
    """Answer; NULL while open."""
    answered: Mapped[float | None]


class StandingRow(Base):
    """How an app stood in the watched directory when that last changed."""

    __tablename__ = "standings"
    app: Mapped[str] = mapped_column(primary_key=True)
    change: Mapped[int]
    document: Mapped[str]
    """Standing."""


class RoutesRow(Base):
    """One entry of the route table that was handed to the proxy."""

    __tablename__ = "routes"
    __table_args__ = (Index("ix_routes_app", "app", "id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    app: Mapped[str]
    at: Mapped[float]
    because: Mapped[str]
    document: Mapped[str | None]
    """AppRoutes; NULL where the app was taken out."""


class FixedRow(Base):
    """One route to something that Docker does not run."""

    __tablename__ = "fixed_routes"
    name: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[str]


class EventRow(Base):
    """One line of the event log."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_app", "app", "id"), Index("ix_events_at", "at"))
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    app: Mapped[str]
    """"" where it concerns the whole service."""
    kind: Mapped[str]
    level: Mapped[str]
    line: Mapped[str]
    data: Mapped[str]


class TokenRow(Base):
    """One AppToken; of its secret only the hash."""

    __tablename__ = "tokens"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)
    scope: Mapped[str]
    apps: Mapped[str | None]
    """JSON list; NULL: all."""
    hosts: Mapped[str]
    by: Mapped[str]
    created: Mapped[float]
    expires: Mapped[float | None]
    last_used: Mapped[float | None]
    revoked: Mapped[float | None]


class AuditRow(Base):
    """One change that somebody made or tried to make."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_app", "app", "id"), Index("ix_audit_at", "at"))
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    who: Mapped[str]
    verb: Mapped[str]
    app: Mapped[str]
    outcome: Mapped[str]
    detail: Mapped[str]


class SecretRow(Base):
    """One secret of an app, encrypted. A removed one keeps its row, so that its version never comes back."""

    __tablename__ = "secrets"
    app: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    key_id: Mapped[str]
    sealed: Mapped[bytes | None]
    """Nonce and ciphertext; NULL: removed."""
    at: Mapped[float]
    by: Mapped[str]


class MeterRow(Base):
    """What was counted in one span of time."""

    __tablename__ = "meters"
    __table_args__ = (Index("ix_meters_start", "span_s", "start"),)
    app: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[int] = mapped_column(primary_key=True)
    span_s: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[float]
