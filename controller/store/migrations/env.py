"""How Alembic runs here: on the connection it is handed, inside the transaction that is open on it."""

from __future__ import annotations

from alembic import context

from controller.store.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # Python's own transactions are off (connection.py), so SQLite's DDL can be rolled back as it should.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
