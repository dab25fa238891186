"""Add archived field to tasks table.

Revision: cf94a9256bdb
Revises: 8b72e4d91c05
"""

import sqlalchemy as sa
from alembic import op

revision = "cf94a9256bdb"
down_revision = "8b72e4d91c05"


def upgrade() -> None:
    op.add_column(
        "tasks", sa.Column("archived", sa.Boolean(), server_default="false", nullable=False)
    )


def downgrade() -> None:
    op.drop_column("tasks", "archived")
