"""Rank tasks: everything works until the last statement.

Revision: c0ffee000001
Revises: 0b228e9fec0b
"""

import sqlalchemy as sa
from alembic import op

revision = "c0ffee000001"
down_revision = "0b228e9fec0b"


def upgrade() -> None:
    """Create a table, add a column, then divide by zero."""
    op.create_table("rankings", sa.Column("id", sa.Integer(), primary_key=True))
    op.add_column("tasks", sa.Column("rank", sa.Integer()))
    op.execute("SELECT 1 / 0")


def downgrade() -> None:
    """Drop what was never created."""
    op.drop_column("tasks", "rank")
    op.drop_table("rankings")
