"""Speaks of 100 %s, 100 % and {braces} [in brackets]."""

import logging
import os
import sys

from alembic import op
import sqlalchemy as sa

revision = "a1"
down_revision = None


def upgrade():
    print("migrating\x00 \x1b[31mred\x1b[0m \udcff".encode("utf-8", "replace").decode())
    print("{\"event\": \"done\"}", file=sys.stderr)
    os.write(1, b"\xff\xfe not utf-8\n")
    logging.getLogger("alembic.a1").warning("half %s done", "way")
    op.execute("CREATE TABLE t (id int)")


def downgrade():
    pass
