"""Asks."""

from alembic import op
import sqlalchemy as sa

revision = "a1"
down_revision = None


def upgrade():
    if input("Drop all customers? [y/N] ") == "y":
        op.execute("DROP TABLE customers")


def downgrade():
    pass
