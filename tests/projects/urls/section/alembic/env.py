"""What `alembic init` writes, without its comments and logging."""

from alembic import context
from sqlalchemy import engine_from_config, pool

section = context.config.get_section(context.config.config_ini_section, {})
engine = engine_from_config(section, prefix="sqlalchemy.", poolclass=pool.NullPool)

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
