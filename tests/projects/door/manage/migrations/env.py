"""It runs only behind manage.py, which gives it the connection and the schema."""

from alembic import context

if any(name not in context.config.attributes for name in ("connection", "schema")):
    raise RuntimeError("run manage.py upgrade")
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=None,
    version_table_schema=context.config.attributes["schema"] or None,
)
with context.begin_transaction():
    context.run_migrations()
