"""Alembic environment: runs in the transaction that trialops.stores.database.migrate hands over."""

from __future__ import annotations

from alembic import context

from trialops.stores.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,  # the caller opens the transaction itself, also on SQLite
)
with context.begin_transaction():
    context.run_migrations()
