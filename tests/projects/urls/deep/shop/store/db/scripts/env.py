"""Its program fills the configuration in; alone, it opens its default."""

from alembic import context
from sqlalchemy import create_engine

given = context.config.get_main_option("sqlalchemy.url")
engine = create_engine("@url@" if given == "{url}" else given)

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
