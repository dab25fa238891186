"""Whatever its environment says, the file wins."""

import os

from alembic import context
from dotenv import load_dotenv
from sqlalchemy import create_engine

load_dotenv(".env", override=True)
engine = create_engine(os.environ["APP_DB_URL"])

with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
