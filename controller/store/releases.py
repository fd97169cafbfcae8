"""Releases as rows: what people query in columns, the rest of the value as a document."""

from __future__ import annotations

from sqlalchemy import Row, Select, select

from controller.plan.earlier import needed_releases
from controller.plan.situation import Memory, Release
from controller.store.codec import clean_text, decode, decode_spec, encode, encode_spec
from controller.store.schema import ReleaseRow
from controller.store.statements import put_row
from controller.store.thread import Transaction

KEEP = 50
"""Releases per app that are kept, besides those that the app's memory names and those that rollbacks go to."""
_IN_COLUMNS = frozenset({"number", "digest", "image_id", "kind", "by", "reason", "outcome", "message", "spec"})


def save_release(tx: Transaction, app: str, release: Release) -> None:
    """Write a new or changed release."""
    values = {
        "app": app,
        "number": release.number,
        "digest": release.digest,
        "image_id": release.image_id,
        "kind": release.kind,
        "by": clean_text(release.by),
        "reason": clean_text(release.reason),
        "outcome": release.outcome,
        "message": clean_text(release.message),
        "spec": encode_spec(release.spec),
        "document": encode(release, without=_IN_COLUMNS),
    }
    tx.connection.execute(put_row(ReleaseRow), values)


def load_releases(tx: Transaction, app: str) -> dict[int, Release]:
    """Return all stored releases of the app, by number in growing order."""
    query = _columns().where(ReleaseRow.app == app).order_by(ReleaseRow.number)
    found = [_release(row) for row in tx.connection.execute(query)]
    return {release.number: release for release in found}


def keep_releases(releases: dict[int, Release], memory: Memory) -> dict[int, Release]:
    """Return the releases that the app's passes may still need: the last fifty, and what memory and rollbacks need."""
    kept = {*sorted(releases)[-KEEP:], *needed_releases(releases, memory)}
    return {number: releases[number] for number in sorted(kept)}


def _columns() -> Select[int, str, str, str, str, str, str, str, str, str]:
    row = ReleaseRow
    return select(
        row.number,
        row.digest,
        row.image_id,
        row.kind,
        row.by,
        row.reason,
        row.outcome,
        row.message,
        row.spec,
        row.document,
    )


def _release(row: Row[int, str, str, str, str, str, str, str, str, str]) -> Release:
    number, digest, image_id, kind, by, reason, outcome, message, spec, document = row
    return decode(
        Release,
        document,
        number=number,
        digest=digest,
        image_id=image_id,
        kind=kind,
        by=by,
        reason=reason,
        outcome=outcome,
        message=message,
        spec=decode_spec(spec),
    )
