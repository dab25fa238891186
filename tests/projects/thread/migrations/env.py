import os
import threading

from alembic import context
from sqlalchemy import create_engine

failures = []


def do_run_migrations():
    try:
        with create_engine(os.environ["DATABASE_URL"]).begin() as connection:
            context.configure(connection=connection)
            context.run_migrations()
    except BaseException as error:
        failures.append(error)


worker = threading.Thread(target=do_run_migrations)
worker.start()
worker.join()
if failures:
    raise failures[0]
