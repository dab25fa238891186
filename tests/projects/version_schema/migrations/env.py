import os
from functools import lru_cache


class Settings:
    def __init__(self):
        self.database_url = os.environ["DATABASE_URL"]


@lru_cache
def get_settings():
    return Settings()


from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(get_settings().database_url, poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None,
        version_table="history",
        version_table_schema="ops",
    )
    with context.begin_transaction():
        context.run_migrations()
