"""A program of the project hands it the connection; plain `alembic` could not."""

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("no connection in the configuration's attributes")

context.configure(connection=connection, target_metadata=None)
with context.begin_transaction():
    context.run_migrations()
