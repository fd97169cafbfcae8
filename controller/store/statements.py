"""Statements that are the same every time, built once: building one costs more than running it."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Table
from sqlalchemy.dialects.sqlite import Insert, insert

from controller.errors import Broken
from controller.store.schema import Base


@cache
def add_row(rows: type[Base]) -> Insert:
    """Return the statement that adds a row; its columns are given when it is executed."""
    return insert(table_of(rows))


@cache
def put_row(rows: type[Base]) -> Insert:
    """Return the statement that adds a row or replaces the one with its key; all columns are given."""
    statement = insert(table_of(rows))
    keys = [column.name for column in table_of(rows).primary_key]
    values = {name: value for name, value in statement.excluded.items() if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=values)


def table_of(rows: type[Base]) -> Table:
    """Return the table behind a mapped class."""
    table = rows.__table__
    if not isinstance(table, Table):
        raise Broken(f"{rows.__name__} is no table")
    return table
