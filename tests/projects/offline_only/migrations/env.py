import os

from alembic import context

context.configure(url=os.environ["DATABASE_URL"], literal_binds=True)
with context.begin_transaction():
    context.run_migrations()
