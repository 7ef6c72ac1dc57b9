"""Runs the migrations on the connection that `controlplane.store.own.migration` gives."""

from alembic import context

from controlplane.store.own.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=metadata, render_as_batch=True, compare_type=True
)
with context.begin_transaction():
    context.run_migrations()
