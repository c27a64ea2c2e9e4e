"""Alembic's entry: migrates the connection that the ledger hands over."""

from alembic import context

from reelsheet.ledger.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
