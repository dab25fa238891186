"""An option of another name than Alembic's."""

from alembic import context
from sqlalchemy import create_engine

engine = create_engine(context.config.get_main_option("url"))

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
