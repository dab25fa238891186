"""Guests, with an enum."""

from alembic import op

revision = "a1"
down_revision = None


def upgrade():
    op.execute("CREATE TYPE mood AS ENUM ('sad')")
    op.execute("CREATE TABLE guests (id serial PRIMARY KEY, mood mood)")


def downgrade():
    pass
