"""Waits for something that does not come."""

import os
import time

from alembic import op
import sqlalchemy as sa

revision = "b1"
down_revision = "a1"


def upgrade():
    if os.environ.get("HANG") == "server":
        op.execute("SELECT pg_sleep(600)")
    elif os.environ.get("HANG") == "python":
        time.sleep(600)
    op.execute("ALTER TABLE t ADD name text")


def downgrade():
    pass
