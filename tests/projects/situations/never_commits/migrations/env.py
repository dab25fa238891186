import os

from alembic import context
from sqlalchemy import create_engine, pool, text

engine = create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)
with engine.connect() as connection:
    print(connection.execute(text("SELECT version()")).scalar())  # begins a transaction
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
