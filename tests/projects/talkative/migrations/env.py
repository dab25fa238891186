import logging.config
import os
import warnings

from alembic import context
from sqlalchemy import create_engine

logging.config.fileConfig(context.config.config_file_name, disable_existing_loggers=True)
print("env.py says 100 %s", flush=True)
warnings.warn("env.py warns", stacklevel=1)
with create_engine(os.environ["DATABASE_URL"], echo=True).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
